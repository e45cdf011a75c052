import { expect, it } from "vitest";
import { headerOf } from "../tests/support/tar-writer.ts";
import { encodeHeader, parseHeader, parsePax, toEntry, type TarEntry } from "./tar-header.ts";

const entry: TarEntry = {
  name: "a",
  type: "file",
  linkname: "",
  mode: 0o644,
  uid: 0,
  gid: 0,
  mtime: 0,
  size: 0,
  devMajor: 0,
  devMinor: 0,
  xattrs: undefined,
};
const records = (text: string): Map<string, string> => {
  const into = new Map<string, string>();
  parsePax(Buffer.from(text, "latin1"), into);
  return into;
};
const parsed = (header: Buffer): ReturnType<typeof toEntry> => {
  const raw = parseHeader(header);
  if (!raw) throw new Error("a zero block");
  return toEntry(raw, new Map());
};

it("reads what it writes", () => {
  const written = { ...entry, name: "usr/bin/sudo", mode: 0o4755, uid: 1000, gid: 50, mtime: 1_700_000_000, size: 0o77777777777 };
  expect(parsed(encodeHeader(written))).toEqual(written);
});

it("takes a zero block for the end", () => {
  expect(parseHeader(Buffer.alloc(512))).toBeUndefined();
});

it("refuses a header whose checksum is wrong", () => {
  const header = headerOf({ name: "a" });
  header[0] = 0x62;
  expect(() => parseHeader(header)).toThrow("a tar header has a wrong checksum");
});

it("refuses a number that is not octal", () => {
  const header = headerOf({ name: "a" });
  header.write("99999999999\0", 124, "latin1");
  header.write(
    `${(header.reduce((sum, byte, at) => sum + (at >= 148 && at < 156 ? 32 : byte), 0) & 0o777777).toString(8).padStart(6, "0")}\0 `,
    148,
    "latin1",
  );
  expect(() => parseHeader(header)).toThrow("a tar header has a number that is not octal");
});

it("reads sizes of base 256 and refuses those beyond exact integers", () => {
  expect(parsed(headerOf({ name: "a", size: 2 ** 40 }))).toMatchObject({ size: 2 ** 40 });
  expect(() => parseHeader(headerOf({ name: "a", size: 2 ** 60 }))).toThrow("a tar header has a number that is too large");
});

it("takes the slash of old tars for a directory, and only of old tars", () => {
  expect(parsed(headerOf({ name: "etc/", flag: "\0" }))).toMatchObject({ type: "directory" });
  expect(parsed(headerOf({ name: "etc/", flag: "0", size: 3 }))).toMatchObject({ type: "file", size: 3 });
});

it("refuses sparse entries of both formats, and unknown types", () => {
  expect(() => parsed(headerOf({ name: "a", flag: "S" }))).toThrow("a layer holds a sparse tar entry");
  const raw = parseHeader(headerOf({ name: "a" }));
  expect(() => raw && toEntry(raw, new Map([["GNU.sparse.major", "1"]]))).toThrow("a layer holds a sparse tar entry");
  expect(() => parsed(headerOf({ name: "a", flag: "Z" }))).toThrow('a tar entry has the unknown type "Z"');
});

it("writes long names, large owners and attributes as pax records", () => {
  const written = { ...entry, name: `${"d/".repeat(200)}f`, uid: 2 ** 31, xattrs: new Map([["security.capability", "\x01\x00\xff=\n"]]) };
  const bytes = encodeHeader(written);
  const size = parseHeader(bytes)?.size ?? 0;
  const pax = records(bytes.toString("latin1", 512, 512 + size));
  const raw = parseHeader(bytes.subarray(bytes.length - 512));
  expect(raw && toEntry(raw, pax)).toEqual(written);
});

it("finds the length of a pax record that counts its own digits", () => {
  for (let length = 80; length < 120; length++) {
    const name = "n".repeat(length);
    const bytes = encodeHeader({ ...entry, name });
    if (length > 100) expect(records(bytes.toString("latin1", 512, 512 + (parseHeader(bytes)?.size ?? 0))).get("path")).toBe(name);
  }
});

it.each([
  ["a length that overflows", "99999999999999999999 path=a\n"],
  ["a length beyond the header", "30 path=a\n"],
  ["a length that ends in the value", "8 path=abc\n"],
  ["no equals sign", "7 path\n"],
  ["a negative length", "-9 path=a\n"],
  ["no length", " path=a\n"],
  ["zeros", "\0\0\0\0"],
])("refuses a pax header with %s", (_, text) => {
  expect(() => records(text)).toThrow("a tar entry has a broken pax header");
});

it("refuses zero bytes in names of pax headers", () => {
  expect(() => records("12 path=a\0b\n")).toThrow("a tar entry has a zero byte in its pax path");
  expect(() => records("16 linkpath=a\0b\n")).toThrow("a tar entry has a zero byte in its pax linkpath");
});

it("takes away a record whose value is empty", () => {
  expect(records("9 path=a\n8 path=\n")).toEqual(new Map());
});

it.each(["size", "uid", "gid"])("refuses a pax %s that is negative or no number", (key) => {
  const raw = parseHeader(headerOf({ name: "a" }));
  for (const value of ["-1", "1e9", "0x10", "99999999999999999999", ""]) {
    expect(() => raw && toEntry(raw, new Map([[key, value]]))).toThrow(`a tar entry has a pax ${key} that is no number`);
  }
});

it("bounds dates to what a file system holds", () => {
  const raw = parseHeader(headerOf({ name: "a" }));
  expect(raw && toEntry(raw, new Map([["mtime", "-5.5"]]))).toMatchObject({ mtime: 0 });
  expect(raw && toEntry(raw, new Map([["mtime", "1700000000.999"]]))).toMatchObject({ mtime: 1_700_000_000 });
  expect(raw && toEntry(raw, new Map([["mtime", "99999999999"]]))).toMatchObject({ mtime: 0xffff_ffff });
});
