import { expect, it } from "vitest";
import { entryOf, extension, headerOf, paxRecord, tarOf } from "../tests/support/tar-writer.ts";
import { maxExtensionBytes, readTar } from "./tar-reader.ts";

async function* inPieces(content: Buffer, size: number): AsyncGenerator<Buffer> {
  for (let at = 0; at < content.length; at += size) yield content.subarray(at, at + size);
}

async function names(content: Buffer, size = 1000): Promise<string[]> {
  const found: string[] = [];
  for await (const { entry } of readTar(inPieces(content, size))) found.push(entry.name);
  return found;
}

const archive = tarOf([
  { name: "a", content: Buffer.from("first") },
  { name: "n".repeat(150), content: Buffer.alloc(700, "x") },
  { name: "g".repeat(150), longNames: "gnu", content: Buffer.alloc(512, "y") },
  { name: "d/", flag: "5" },
]);

it.each([1, 7, 511, 512, 513, 100_000])("reads the same entries from chunks of %i bytes", async (size) => {
  const seen: [string, string][] = [];
  for await (const { entry, body } of readTar(inPieces(archive, size))) {
    const parts: Buffer[] = [];
    for await (const chunk of body()) parts.push(chunk);
    seen.push([entry.name, Buffer.concat(parts).toString()]);
  }
  expect(seen).toEqual([
    ["a", "first"],
    ["n".repeat(150), "x".repeat(700)],
    ["g".repeat(150), "y".repeat(512)],
    ["d/", ""],
  ]);
});

it("skips content that nobody reads, and what was read of it by half", async () => {
  expect(await names(archive, 64)).toHaveLength(4);
  const seen: string[] = [];
  for await (const { entry, body } of readTar(inPieces(archive, 64))) {
    for await (const _ of body()) break;
    seen.push(entry.name);
  }
  expect(seen).toHaveLength(4);
});

it("says where the content of each entry begins", async () => {
  for await (const { entry, offset } of readTar(inPieces(archive, 512))) {
    if (entry.size > 0)
      expect(archive.toString("latin1", offset, offset + 1)).toBe(entry.name === "a" ? "f" : entry.name.startsWith("n") ? "x" : "y");
  }
});

it("reads bytes after the end mark, and nothing of them", async () => {
  const after = Buffer.concat([archive, entryOf({ name: "after" })]);
  expect(await names(after)).toHaveLength(4);
});

it("takes an archive that ends without its mark at an entry's end", async () => {
  expect(await names(archive.subarray(0, -1024))).toHaveLength(4);
});

it("refuses an archive that ends anywhere else", async () => {
  const whole = archive.subarray(0, -1024);
  for (const cut of [1, 511, 513, 515, 1023, 1025])
    await expect(names(whole.subarray(0, cut)), `cut at ${cut}`).rejects.toThrow("a tar ends too early");
});

it("applies global records to all entries and a local one to the next alone", async () => {
  const content = Buffer.concat([
    extension("g", paxRecord("path", "everywhere")),
    extension("x", paxRecord("path", "here")),
    entryOf({ name: "a" }),
    entryOf({ name: "b" }),
  ]);
  expect(await names(content)).toEqual(["here", "everywhere"]);
});

it("refuses extensions beyond its limit without reading them", async () => {
  const header = headerOf({ name: "x", flag: "x", size: maxExtensionBytes + 1 });
  await expect(names(header)).rejects.toThrow(`a tar entry has more than ${maxExtensionBytes} bytes of extensions`);
});

it("refuses extensions that pile up before one entry", async () => {
  const pile = Array.from({ length: 5000 }, (_, at) => extension("x", paxRecord(`SCHILY.xattr.user.${at}`, "v".repeat(1000))));
  await expect(names(Buffer.concat([...pile, entryOf({ name: "a" })]))).rejects.toThrow("a tar entry has more than");
});
