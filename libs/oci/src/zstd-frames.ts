// Cuts a zstd stream at its frames (RFC 8878): Node's decompressor stops after the first, and images made for lazy pulling have many.
import { malformed, truncated } from "./image-error.ts";

const frameMagic = 0xfd2fb528;
const skippableMagic = 0x184d2a5; // and four bits that mean nothing
/** Magic, descriptor, window, dictionary and content size. */
const maxHeaderBytes = 4 + 1 + 1 + 4 + 8;

type State = "magic" | "block" | "content" | "checksum" | "skip";

/** The same bytes in pieces of which none holds parts of two frames; skippable frames are left out. Throws `corrupt`. */
export async function* zstdFrames(source: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  let state: State = "magic";
  let hasChecksum = false;
  let isLast = false;
  let left = 0;
  let held: Buffer = Buffer.alloc(0);
  for await (const chunk of source) {
    const bytes = held.length === 0 ? chunk : Buffer.concat([held, chunk]);
    let start = 0; // of what is not handed on yet
    let at = 0;
    for (;;) {
      if (state === "magic") {
        const header = headerOf(bytes.subarray(at));
        if (header === undefined) break;
        hasChecksum = header.hasChecksum;
        left = header.skip;
        state = left > 0 ? "skip" : "block";
        at += header.bytes;
        if (state === "skip") start = at;
        else if (header.isSkippable) {
          state = "magic";
          start = at;
        }
      } else if (state === "block") {
        if (bytes.length - at < 3) break;
        const block = bytes.readUIntLE(at, 3);
        isLast = (block & 1) === 1;
        // A run-length block stores one byte, whatever its size.
        left = ((block >> 1) & 3) === 1 ? 1 : block >> 3;
        at += 3;
        state = "content";
      } else {
        const taken = Math.min(left, bytes.length - at);
        at += taken;
        left -= taken;
        if (state === "skip") start = at;
        if (left > 0) break;
        if (state === "content" && !isLast) state = "block";
        else if (state === "content" && hasChecksum) {
          left = 4;
          state = "checksum";
        } else {
          if (at > start) yield bytes.subarray(start, at);
          start = at;
          state = "magic";
        }
      }
    }
    if (at > start) yield bytes.subarray(start, at);
    held = bytes.subarray(at);
  }
  if (state !== "magic" || held.length > 0) throw truncated("a layer");
}

/** undefined when more bytes are needed. `skip` is the content of a skippable frame. */
function headerOf(bytes: Buffer): { bytes: number; skip: number; hasChecksum: boolean; isSkippable: boolean } | undefined {
  if (bytes.length < 5) return undefined;
  const magic = bytes.readUInt32LE(0);
  if (magic >>> 4 === skippableMagic) {
    return bytes.length < 8 ? undefined : { bytes: 8, skip: bytes.readUInt32LE(4), hasChecksum: false, isSkippable: true };
  }
  if (magic !== frameMagic) throw malformed("a layer is not valid zstd");
  const descriptor = bytes[4] ?? 0;
  const isSingleSegment = (descriptor & 0x20) !== 0;
  const dictionaryBytes = [0, 1, 2, 4][descriptor & 3] ?? 0;
  const contentSizeBytes = [isSingleSegment ? 1 : 0, 2, 4, 8][descriptor >> 6] ?? 0;
  const size = 5 + (isSingleSegment ? 0 : 1) + dictionaryBytes + contentSizeBytes;
  if (bytes.length < size && bytes.length < maxHeaderBytes) return undefined;
  return { bytes: size, skip: 0, hasChecksum: (descriptor & 4) !== 0, isSkippable: false };
}
