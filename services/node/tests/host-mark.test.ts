import { cp, mkdtemp, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it, onTestFinished } from "vitest";
import { hostMark } from "../src/host/host-mark.ts";

it("a folder that is copied, and a host that has booted, are others; a folder that has another name is not", async () => {
  const root = await mkdtemp(join(tmpdir(), "pitwall-mark-"));
  onTestFinished(() => rm(root, { recursive: true }));
  const [dir, copy, renamed] = [join(root, "node"), join(root, "copy"), join(root, "renamed")];
  await cp(await mkdtemp(join(root, "new-")), dir, { recursive: true });
  await writeFile(join(dir, "identity.json"), "{}");
  const mark = await hostMark(dir, "boot-1");
  expect(mark).toMatch(/^[0-9a-f]{32}$/);
  expect(await hostMark(dir, "boot-1")).toBe(mark);
  expect(await hostMark(dir, "boot-2")).not.toBe(mark);
  await cp(dir, copy, { recursive: true });
  expect(await hostMark(copy, "boot-1")).not.toBe(mark);
  await rename(dir, renamed);
  expect(await hostMark(renamed, "boot-1")).toBe(mark);
});
