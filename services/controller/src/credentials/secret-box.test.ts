import { randomBytes } from "node:crypto";
import { describe, expect, it } from "vitest";
import { SecretBox } from "./secret-box.ts";

const [one, two] = [randomBytes(32), randomBytes(32)];

describe("a sealed secret", () => {
  it("opens for what it is about, with the key that sealed it, wherever that stands", () => {
    const sealed = new SecretBox([one]).seal("hunter2 ü", "project/1/ghcr.io");
    expect(Buffer.from(sealed.box).includes("hunter2")).toBe(false);
    expect(new SecretBox([one]).open(sealed, "project/1/ghcr.io")).toBe("hunter2 ü");
    expect(new SecretBox([two, one]).open(sealed, "project/1/ghcr.io")).toBe("hunter2 ü");
    expect(new SecretBox([two, one]).seal("x", "").keyId).toBe(new SecretBox([two]).keyId);
  });

  it("is never sealed the same way twice", () => {
    const box = new SecretBox([one]);
    expect(box.seal("x", "a").box).not.toEqual(box.seal("x", "a").box);
  });

  it("does not open for anything else, nor after any change, nor without its key", () => {
    const box = new SecretBox([one]);
    const sealed = box.seal("hunter2", "project/1/ghcr.io");
    expect(() => box.open(sealed, "project/2/ghcr.io")).toThrow("was changed, or moved");
    for (const at of sealed.box.keys()) {
      const changed = Buffer.from(sealed.box);
      changed[at] = (changed[at] ?? 0) ^ 1;
      expect(() => box.open({ ...sealed, box: changed }, "project/1/ghcr.io")).toThrow("was changed, or moved");
    }
    expect(() => box.open({ ...sealed, box: sealed.box.subarray(0, 5) }, "project/1/ghcr.io")).toThrow("was changed, or moved");
    expect(() => new SecretBox([two]).open(sealed, "project/1/ghcr.io")).toThrow("not in the controller's key file");
  });
});
