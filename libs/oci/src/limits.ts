// How much an image may ask of the host that flattens it, and the account of what it has asked for.
import { PitwallError } from "@pitwall/runtime";
import { malformed } from "./image-error.ts";
import type { TarEntry } from "./tar-header.ts";

/** Bounds of one image, all layers together. */
export interface FlattenLimits {
  /** Decompressed bytes. */
  maxBytes: number;
  /** Bytes of one file. */
  maxFileBytes: number;
  /** Entries, and folders made for them. */
  maxEntries: number;
  /** Folders above an entry, after links are followed. */
  maxDepth: number;
  /** Decompressed bytes per stored byte, over each {@link ratioWindowBytes} of a layer. */
  maxRatio: number;
}

/** Room for the large images people run today; a machine-learning image has about 200,000 entries. */
export const defaultLimits: FlattenLimits = {
  maxBytes: 64 * 2 ** 30,
  maxFileBytes: 32 * 2 ** 30,
  maxEntries: 500_000,
  maxDepth: 128,
  maxRatio: 200,
};

/** So much at any ratio is taken: a file of zeros is no attack. Gzip reaches 1,028 to 1 and zstd 32,467 to 1, and only with zeros. */
export const ratioWindowBytes = 2 ** 29;

const maxPathBytes = 4096;
/** Names, link targets and attributes of the whole image. */
const maxIndexBytes = 64 * 2 ** 20;

/** What is left of the limits. Throws `exhausted` when there is nothing. */
export class Budget {
  readonly limits: FlattenLimits;
  #bytes = 0;
  #entries = 0;
  #indexBytes = 0;

  constructor(limits: FlattenLimits) {
    this.limits = limits;
  }

  /** Takes decompressed bytes. */
  takeBytes(count: number): void {
    this.#bytes += count;
    if (this.#bytes > this.limits.maxBytes) throw tooLarge(`unpacks to more than ${this.limits.maxBytes} bytes`);
  }

  /** Takes an entry; throws `corrupt` for one that no file system holds. What its header announces counts before it is there. */
  takeEntry(entry: Pick<TarEntry, "name" | "linkname" | "size" | "xattrs">): void {
    if (++this.#entries > this.limits.maxEntries) throw tooLarge(`has more than ${this.limits.maxEntries} entries`);
    if (entry.size > this.limits.maxFileBytes)
      throw tooLarge(`holds a file of ${entry.size} bytes; the limit is ${this.limits.maxFileBytes}`);
    if (this.#bytes + entry.size > this.limits.maxBytes) throw tooLarge(`unpacks to more than ${this.limits.maxBytes} bytes`);
    if (entry.name.length > maxPathBytes || entry.linkname.length > maxPathBytes)
      throw malformed(`a layer holds a path of more than ${maxPathBytes} bytes`);
    this.#indexBytes += entry.name.length + entry.linkname.length;
    for (const [key, value] of entry.xattrs ?? []) this.#indexBytes += key.length + value.length;
    if (this.#indexBytes > maxIndexBytes) throw tooLarge("has too many long names and attributes");
  }
}

/** The refusal of an image beyond the limits; `what` completes "the image …". */
export function tooLarge(what: string): PitwallError {
  return new PitwallError("exhausted", `the image ${what}; use a smaller image`, { reason: "IMAGE_TOO_LARGE" });
}
