// Tar headers as bytes: ustar, GNU long names and pax, read and written without losing a byte.
// Names and attribute values are latin1 strings, one character per byte: images hold names and capabilities that are not UTF-8.
import { malformed, unsupported } from "./image-error.ts";

export type EntryType = "file" | "link" | "symlink" | "character-device" | "block-device" | "directory" | "fifo";

/** One entry. Strings are latin1. */
export interface TarEntry {
  readonly name: string;
  readonly type: EntryType;
  readonly linkname: string;
  /** Permission bits only. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** Whole seconds since 1970, 0 to 2^32-1. */
  readonly mtime: number;
  /** Bytes of content; 0 for all but files. */
  readonly size: number;
  readonly devMajor: number;
  readonly devMinor: number;
  /** Extended attributes; undefined when there are none. */
  readonly xattrs: ReadonlyMap<string, string> | undefined;
}

export const blockSize = 512;
/** Zero bytes that follow content of `size` bytes. */
export const padding = (size: number): number => (blockSize - (size % blockSize)) % blockSize;

/** A header block; `flag` is its type character. */
export interface RawHeader extends Omit<TarEntry, "type" | "xattrs"> {
  readonly flag: string;
}

/** Parses one block; undefined for the zero block that ends an archive. */
export function parseHeader(block: Buffer): RawHeader | undefined {
  let sum = 8 * 32;
  for (let i = 0; i < blockSize; i++) if (i < 148 || i >= 156) sum += block[i] ?? 0;
  if (sum === 8 * 32) return undefined;
  if (sum !== number(block, 148, 8)) throw malformed("a tar header has a wrong checksum");
  // Only POSIX tars have a prefix; GNU keeps dates in its place.
  const prefix = block[345] !== 0 && block.toString("latin1", 257, 263) === "ustar\0" ? text(block, 345, 155) : "";
  const name = text(block, 0, 100);
  return {
    name: prefix === "" ? name : `${prefix}/${name}`,
    mode: number(block, 100, 8) & 0o7777,
    uid: number(block, 108, 8),
    gid: number(block, 116, 8),
    size: number(block, 124, 12),
    mtime: seconds(number(block, 136, 12)),
    flag: block.toString("latin1", 156, 157),
    linkname: text(block, 157, 100),
    devMajor: number(block, 329, 8),
    devMinor: number(block, 337, 8),
  };
}

const typeOfFlag: Readonly<Record<string, EntryType>> = {
  "\0": "file",
  "0": "file",
  "7": "file",
  "1": "link",
  "2": "symlink",
  "3": "character-device",
  "4": "block-device",
  "5": "directory",
  "6": "fifo",
};

/** A header and the extensions that came before it, as one entry. */
export function toEntry(raw: RawHeader, pax: ReadonlyMap<string, string>): TarEntry {
  const name = pax.get("path") ?? raw.name;
  let type = typeOfFlag[raw.flag];
  if (raw.flag === "S" || isSparse(pax))
    throw unsupported("a layer holds a sparse tar entry; build the image with a tool that writes plain entries");
  if (type === undefined) throw malformed(`a tar entry has the unknown type ${JSON.stringify(raw.flag)}`);
  if (raw.flag === "\0" && name.endsWith("/")) type = "directory"; // tars older than POSIX have no type for it
  let xattrs: Map<string, string> | undefined;
  for (const [key, value] of pax) {
    if (key.startsWith(xattrPrefix)) (xattrs ??= new Map()).set(key.slice(xattrPrefix.length), value);
  }
  return {
    name,
    type,
    xattrs,
    linkname: type === "link" || type === "symlink" ? (pax.get("linkpath") ?? raw.linkname) : "",
    mode: raw.mode,
    uid: paxNumber(pax, "uid") ?? raw.uid,
    gid: paxNumber(pax, "gid") ?? raw.gid,
    mtime: seconds(paxNumber(pax, "mtime") ?? raw.mtime),
    size: type === "file" ? (paxNumber(pax, "size") ?? raw.size) : 0,
    devMajor: raw.devMajor,
    devMinor: raw.devMinor,
  };
}

function isSparse(pax: ReadonlyMap<string, string>): boolean {
  for (const key of pax.keys()) if (key.startsWith("GNU.sparse.")) return true;
  return false;
}

const xattrPrefix = "SCHILY.xattr.";
const seconds = (value: number): number => Math.min(Math.max(Math.floor(value), 0), 0xffff_ffff);

function paxNumber(pax: ReadonlyMap<string, string>, key: string): number | undefined {
  const value = pax.get(key);
  if (value === undefined) return undefined;
  const parsed = Number(value);
  if (!/^-?[0-9]+(\.[0-9]*)?$/.test(value) || Math.abs(parsed) > Number.MAX_SAFE_INTEGER || (parsed < 0 && key !== "mtime"))
    throw malformed(`a tar entry has a pax ${key} that is no number`);
  return parsed;
}

/** Adds the records of a pax header to `into`; an empty value takes a record away. */
export function parsePax(content: Buffer, into: Map<string, string>): void {
  for (let at = 0; at < content.length;) {
    const space = content.indexOf(0x20, at);
    const digits = space === -1 ? "" : content.toString("latin1", at, space);
    const end = at + Number(digits);
    const equals = content.indexOf(0x3d, space);
    if (!/^[0-9]{1,9}$/.test(digits) || end > content.length || equals === -1 || equals >= end || content[end - 1] !== 0x0a)
      throw malformed("a tar entry has a broken pax header");
    const key = content.toString("latin1", space + 1, equals);
    const value = content.toString("latin1", equals + 1, end - 1);
    if ((key === "path" || key === "linkpath") && value.includes("\0")) throw malformed(`a tar entry has a zero byte in its pax ${key}`);
    if (value === "") into.delete(key);
    else into.set(key, value);
    at = end;
  }
}

function text(block: Buffer, at: number, length: number): string {
  const end = block.indexOf(0, at);
  return block.toString("latin1", at, end === -1 || end > at + length ? at + length : end);
}

/** Octal digits between spaces and zero bytes; nothing at all is 0. By hand, because every header has eight of them. */
function octal(block: Buffer, from: number, to: number): number {
  let at = from;
  let end = to;
  while (at < end && isBlank(block[at])) at++;
  while (end > at && isBlank(block[end - 1])) end--;
  let value = 0;
  for (; at < end; at++) {
    const digit = (block[at] ?? 0) - 0x30;
    if (digit < 0 || digit > 7) throw malformed("a tar header has a number that is not octal");
    value = value * 8 + digit;
  }
  return value;
}

const isBlank = (byte: number | undefined): boolean => byte === 0x20 || byte === 0;

/** Octal digits, or base 256 when the first bit is set. Negative numbers (old dates) become 0. */
function number(block: Buffer, at: number, length: number): number {
  const first = block[at] ?? 0;
  if ((first & 0x80) === 0) return octal(block, at, at + length);
  if (first === 0xff) return 0;
  let value = first & 0x7f;
  for (let i = at + 1; i < at + length; i++) value = value * 256 + (block[i] ?? 0);
  if (value > Number.MAX_SAFE_INTEGER) throw malformed("a tar header has a number that is too large");
  return value;
}

const flagOfType: Readonly<Record<EntryType, string>> = {
  file: "0",
  link: "1",
  symlink: "2",
  "character-device": "3",
  "block-device": "4",
  directory: "5",
  fifo: "6",
};
const maxOctal8 = 0o7777777;
const maxOctal12 = 0o77777777777;

/** The blocks of an entry's header, with a pax header where ustar has no room. */
export function encodeHeader(entry: TarEntry): Buffer {
  const records: string[] = [];
  if (entry.name.length > 100) records.push(paxRecord("path", entry.name));
  if (entry.linkname.length > 100) records.push(paxRecord("linkpath", entry.linkname));
  if (entry.uid > maxOctal8) records.push(paxRecord("uid", String(entry.uid)));
  if (entry.gid > maxOctal8) records.push(paxRecord("gid", String(entry.gid)));
  if (entry.size > maxOctal12) records.push(paxRecord("size", String(entry.size)));
  for (const [key, value] of entry.xattrs ?? []) records.push(paxRecord(`${xattrPrefix}${key}`, value));
  const header = ustar(entry, flagOfType[entry.type]);
  if (records.length === 0) return header;
  const body = Buffer.from(records.join(""), "latin1");
  const extension = ustar(
    { ...entry, name: "pax", linkname: "", size: body.length, mode: 0o644, uid: 0, gid: 0, devMajor: 0, devMinor: 0 },
    "x",
  );
  return Buffer.concat([extension, body, Buffer.alloc(padding(body.length)), header]);
}

function paxRecord(key: string, value: string): string {
  const rest = ` ${key}=${value}\n`;
  let length = rest.length;
  while (String(length).length + rest.length !== length) length = String(length).length + rest.length;
  return `${length}${rest}`;
}

function ustar(entry: TarEntry, flag: string): Buffer {
  const block = Buffer.alloc(blockSize);
  const digits = (value: number, at: number, length: number): void => {
    const max = 8 ** (length - 1) - 1;
    block.write(
      Math.min(value, max)
        .toString(8)
        .padStart(length - 1, "0"),
      at,
      "latin1",
    );
  };
  block.write(entry.name.slice(0, 100), 0, "latin1");
  digits(entry.mode, 100, 8);
  digits(entry.uid, 108, 8);
  digits(entry.gid, 116, 8);
  digits(entry.size, 124, 12);
  digits(entry.mtime, 136, 12);
  block.write(`        ${flag}`, 148, "latin1");
  block.write(entry.linkname.slice(0, 100), 157, "latin1");
  block.write("ustar\x0000", 257, "latin1");
  digits(entry.devMajor, 329, 8);
  digits(entry.devMinor, 337, 8);
  let sum = 0;
  for (const byte of block) sum += byte;
  block.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148, "latin1");
  return block;
}
