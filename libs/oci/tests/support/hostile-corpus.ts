// Layers that are made to do harm, or broken in ways that a tar can be: what must become of each.
import { gzipSync } from "node:zlib";
import { layerOf, type WrittenLayer } from "./layout-writer.ts";
import { entryOf, extension, headerOf, paxRecord, tarOf, type TarSpec } from "./tar-writer.ts";

const end = Buffer.alloc(1024);
/** Layers of these tars, stored as they are. */
export const plain = (...tars: readonly Buffer[]): WrittenLayer[] => tars.map((tar) => layerOf(tar, "none"));
export const file = (name: string, more: Partial<TarSpec> = {}): TarSpec => ({ name, content: Buffer.from("x"), ...more });
const raw = (...parts: readonly Buffer[]): WrittenLayer[] => plain(Buffer.concat([...parts, end]));
export const longName = "n".repeat(200);

/** What it is, its layers, and the tree that they make. */
export const harmless: readonly (readonly [string, readonly TarSpec[][], readonly string[]])[] = [
  ["a name that climbs out", [[file("../../etc/passwd")]], ["directory etc", "file etc/passwd"]],
  ["an absolute name", [[file("/etc/passwd")]], ["directory etc", "file etc/passwd"]],
  ["a name that climbs out from inside", [[file("a/../../b")]], ["file b"]],
  ["a name of many dots and slashes", [[file(".//././a//b/.")]], ["directory a", "file a/b"]],
  ["a folder named ..", [[{ name: "../..", flag: "5" }, file("a")]], ["file a"]],
  ["a name of 100 bytes with a zero byte after it", [[file("a\0/../../b")]], ["file a"]],
  ["a GNU name with a zero byte inside", [[{ ...file(`${longName}\0${longName}`), longNames: "gnu" }]], [`file ${longName}`]],
  [
    "a link out, and a file through it",
    [[{ name: "l", flag: "2", linkname: "/etc" }, file("l/passwd")]],
    ["directory etc", "symlink l -> /etc", "file etc/passwd"],
  ],
  [
    "a link up, and a file through it",
    [[{ name: "l", flag: "2", linkname: "../../../.." }, file("l/tmp/a")]],
    ["symlink l -> ../../../..", "directory tmp", "file tmp/a"],
  ],
  [
    "a link of a lower layer, and a file through it",
    [[{ name: "l", flag: "2", linkname: "/etc" }], [file("l/passwd")]],
    ["directory etc", "symlink l -> /etc", "file etc/passwd"],
  ],
  [
    "a link that a folder replaces",
    [[{ name: "l", flag: "2", linkname: "/etc" }], [{ name: "l", flag: "5" }, file("l/a")]],
    ["directory l", "file l/a"],
  ],
  [
    "a hard link to a link that leads out",
    [
      [
        { name: "l", flag: "2", linkname: "/etc/shadow" },
        { name: "h", flag: "1", linkname: "l" },
      ],
    ],
    ["symlink h -> /etc/shadow", "symlink l -> /etc/shadow"],
  ],
  [
    "devices, which stay in the image",
    [
      [
        { name: "mem", flag: "3", devMajor: 1, devMinor: 1 },
        { name: "sda", flag: "4", devMajor: 8 },
        { name: "pipe", flag: "6" },
      ],
    ],
    ["character-device mem", "fifo pipe", "block-device sda"],
  ],
  ["a whiteout at the root for everything", [[file("a"), file("d/b")], [file(".wh..wh..opq")]], []],
  ["bookkeeping of old storage drivers", [[file(".wh..wh.plnk/1.2"), file(".wh..wh.aufs")]], []],
  [
    "a type that changes a thousand times",
    [Array.from({ length: 1000 }, (_, at): TarSpec => ({ name: "a", flag: ["0", "5", "2", "6"][at % 4] ?? "0", linkname: "b" }))],
    ["fifo a"],
  ],
  ["a whiteout that comes after what its layer put there", [[file("a")], [file("a"), file(".wh.a")]], ["file a"]],
  ["an archive inside", [[{ name: "a.gz", content: gzipSync(tarOf([file("../b")])) }]], ["file a.gz"]],
];

const chain = (length: number): TarSpec[] =>
  Array.from({ length }, (_, at) => ({ name: `l${at}`, flag: "2", linkname: at + 1 < length ? `l${at + 1}` : "end" }));
const base256 = (size: number): Buffer => headerOf({ name: "a", size });

/** What it is, its layers, and the refusal. */
export const refused: readonly (readonly [string, () => WrittenLayer[], RegExp])[] = [
  ["a file where the root is", () => plain(tarOf([file("..")])), /corrupt: a layer makes the root something else than a folder/],
  ["a file without a name", () => plain(tarOf([file("")])), /corrupt: a layer makes the root something else than a folder/],
  ["a zero byte in a pax name", () => plain(tarOf([file("a", { pax: [["path", "a\0b"]] })])), /corrupt: .* zero byte in its pax path/],
  [
    "a zero byte in a pax link",
    () => plain(tarOf([{ name: "a", flag: "2", pax: [["linkpath", "a\0b"]] }])),
    /corrupt: .* zero byte in its pax linkpath/,
  ],
  ["a path of 5,000 bytes", () => plain(tarOf([file("d/".repeat(2500))])), /corrupt: .* path of more than 4096 bytes/],
  [
    "a link of 5,000 bytes",
    () => plain(tarOf([{ name: "a", flag: "2", linkname: "d/".repeat(2500) }])),
    /corrupt: .* path of more than 4096 bytes/,
  ],
  ["a name of 256 bytes", () => plain(tarOf([file("n".repeat(256))])), /corrupt: .* name of 256 bytes; the limit is 255/],
  ["folders 200 deep", () => plain(tarOf([file(`${"d/".repeat(200)}f`)])), /exhausted: .* more than 128 deep/],
  ["a chain of 50 links", () => plain(tarOf([...chain(50), file("l0/f")])), /corrupt: .* more than 40 symbolic links/],
  [
    "links in a circle",
    () => plain(tarOf([{ name: "a", flag: "2", linkname: "b" }, { name: "b", flag: "2", linkname: "a" }, file("a/f")])),
    /corrupt: .* more than 40 symbolic links/,
  ],
  [
    "links that double",
    () =>
      plain(
        tarOf([
          ...Array.from({ length: 60 }, (_, at): TarSpec => ({ name: `l${at}`, flag: "2", linkname: `l${at + 1}/l${at + 1}` })),
          file("l0/f"),
        ]),
      ),
    /corrupt: .* symbolic links/,
  ],
  [
    "a hard link out",
    () => plain(tarOf([{ name: "a", flag: "1", linkname: "../../etc/passwd" }])),
    /corrupt: hard link "a" points at .* not there/,
  ],
  ["a hard link to an absolute path", () => plain(tarOf([{ name: "a", flag: "1", linkname: "/etc/passwd" }])), /corrupt: .* not there/],
  ["a hard link to itself", () => plain(tarOf([{ name: "a", flag: "1", linkname: "a" }])), /corrupt: .* not there/],
  ["a hard link to the root", () => plain(tarOf([{ name: "a", flag: "1", linkname: "/" }])), /corrupt: .* points at a folder/],
  [
    "a hard link to a folder",
    () =>
      plain(
        tarOf([
          { name: "d", flag: "5" },
          { name: "a", flag: "1", linkname: "d" },
        ]),
      ),
    /corrupt: .* points at a folder/,
  ],
  [
    "a hard link through a link that leads out",
    () =>
      plain(
        tarOf([
          { name: "l", flag: "2", linkname: "/etc" },
          { name: "a", flag: "1", linkname: "l/passwd" },
        ]),
      ),
    /corrupt: .* not there/,
  ],
  [
    "a hard link to what a whiteout took",
    () => plain(tarOf([file("a")]), tarOf([file(".wh.a"), { name: "b", flag: "1", linkname: "a" }])),
    /corrupt: .* not there/,
  ],
  ["a whiteout of nothing", () => plain(tarOf([file("d/.wh.")])), /corrupt: .* whiteout of no file/],
  ["a whiteout of .", () => plain(tarOf([file("d/.wh..")])), /corrupt: .* whiteout of no file/],
  ["a whiteout of ..", () => plain(tarOf([file("d/.wh...")])), /corrupt: .* whiteout of no file/],
  [
    "an attribute of 2 MiB",
    () => plain(tarOf([file("a", { xattrs: { "user.a": "v".repeat(2 ** 21) } })])),
    /corrupt: .* more than 1048576 bytes of extensions/,
  ],
  ["a pax header that says 2 GiB", () => raw(headerOf({ name: "x", flag: "x", size: 2 ** 31 })), /corrupt: .* bytes of extensions/],
  ["a GNU name of 2 MiB", () => raw(extension("L", "n".repeat(2 ** 21)), entryOf(file("a"))), /corrupt: .* bytes of extensions/],
  [
    "pax headers without end",
    () => raw(...Array.from({ length: 3000 }, () => extension("x", paxRecord("comment", "c".repeat(900)))), entryOf(file("a"))),
    /corrupt: .* bytes of extensions/,
  ],
  [
    "global headers without end",
    () => raw(...Array.from({ length: 1500 }, (_, at) => extension("g", paxRecord(`k${at}`, "v")))),
    /corrupt: a tar has too many global records/,
  ],
  [
    "a pax length that overflows",
    () => raw(extension("x", "99999999999999999999 path=a\n"), entryOf(file("a"))),
    /corrupt: .* broken pax header/,
  ],
  ["a pax length beyond the header", () => raw(extension("x", "500 path=a\n"), entryOf(file("a"))), /corrupt: .* broken pax header/],
  ["a pax record without a value", () => raw(extension("x", "8 path\n\n"), entryOf(file("a"))), /corrupt: .* broken pax header/],
  ["a negative pax size", () => plain(tarOf([file("a", { pax: [["size", "-1"]] })])), /corrupt: .* pax size that is no number/],
  [
    "a pax size of 2^63",
    () => plain(tarOf([file("a", { pax: [["size", "9223372036854775808"]] })])),
    /corrupt: .* pax size that is no number/,
  ],
  ["a pax size beyond the archive", () => plain(tarOf([file("a", { pax: [["size", "100000"]] })])), /corrupt: a tar ends too early/],
  [
    "a pax size of 1 TiB",
    () => plain(tarOf([file("a", { pax: [["size", String(2 ** 40)]] })])),
    /exhausted: .* file of 1099511627776 bytes/,
  ],
  ["a header that says 1 TiB", () => raw(base256(2 ** 40)), /exhausted: .* file of 1099511627776 bytes/],
  ["a header that says 2^60 bytes", () => raw(base256(2 ** 60)), /corrupt: .* number that is too large/],
  [
    "a sparse file of 1 TiB, GNU",
    () => raw(headerOf({ name: "a", flag: "S", size: 512 }), Buffer.alloc(512)),
    /unsupported: .* sparse tar entry/,
  ],
  [
    "a sparse file of 1 TiB, pax",
    () =>
      plain(
        tarOf([
          file("a", {
            pax: [
              ["GNU.sparse.major", "1"],
              ["GNU.sparse.realsize", String(2 ** 40)],
            ],
          }),
        ]),
      ),
    /unsupported: .* sparse tar entry/,
  ],
  ["a wrong checksum", () => raw(Buffer.concat([headerOf(file("a")).fill("b", 0, 1)])), /corrupt: .* wrong checksum/],
  ["an unknown type", () => plain(tarOf([{ name: "a", flag: "Z" }])), /corrupt: .* unknown type "Z"/],
  ["a piece of a multi-volume archive", () => plain(tarOf([{ name: "a", flag: "M" }])), /corrupt: .* unknown type "M"/],
  ["noise", () => raw(Buffer.alloc(4096, "noise")), /corrupt: .* (?:checksum|octal)/],
];
