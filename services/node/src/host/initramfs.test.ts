import { expect, it } from "vitest";
import { cpio } from "./initramfs.ts";

it("is newc: every part aligned to four bytes, sizes in hex, a trailer at the end", () => {
  const archive = cpio([
    { name: "init", mode: 0o100755, data: Buffer.from("hello") },
    { name: "lib", mode: 0o040755 },
  ]);
  expect(archive.length % 4).toBe(0);
  const seen: { name: string; mode: number; data: string }[] = [];
  for (let at = 0; at < archive.length;) {
    expect(archive.toString("latin1", at, at + 6)).toBe("070701");
    const field = (index: number): number => Number.parseInt(archive.toString("latin1", at + 6 + index * 8, at + 14 + index * 8), 16);
    const [mode, size, nameSize] = [field(1), field(6), field(11)];
    const name = archive.toString("latin1", at + 110, at + 110 + nameSize - 1);
    const data = Math.ceil((at + 110 + nameSize) / 4) * 4;
    seen.push({ name, mode, data: archive.toString("latin1", data, data + size) });
    at = Math.ceil((data + size) / 4) * 4;
  }
  expect(seen).toEqual([
    { name: "init", mode: 0o100755, data: "hello" },
    { name: "lib", mode: 0o040755, data: "" },
    { name: "TRAILER!!!", mode: 0, data: "" },
  ]);
});
