// Reads a tar as a stream, entry by entry, with memory bounded by one header.
import { malformed, truncated } from "./image-error.ts";
import { blockSize, padding, parseHeader, parsePax, toEntry, type TarEntry } from "./tar-header.ts";

/** An entry and its content. The content can be read once, before the next entry is asked for; what is not read is skipped. */
export interface TarItem {
  readonly entry: TarEntry;
  /** Bytes of the tar before the content. */
  readonly offset: number;
  readonly body: () => AsyncGenerator<Buffer>;
}

/** Of all extensions of one entry together. */
export const maxExtensionBytes = 1024 * 1024;

/** The entries of a tar, to the end of `source` (bytes after the end mark are read and ignored, so that a digest covers them). */
export async function* readTar(source: AsyncIterable<Buffer>): AsyncGenerator<TarItem> {
  const bytes = new ByteReader(source);
  try {
    const shared = new Map<string, string>();
    let pax = new Map<string, string>();
    let extensionBytes = 0;
    for (;;) {
      const block = bytes.take(blockSize) ?? (await bytes.block());
      if (block === undefined) break;
      const raw = parseHeader(block);
      if (raw === undefined) break;
      if (raw.flag === "x" || raw.flag === "g" || raw.flag === "L" || raw.flag === "K") {
        extensionBytes += raw.size;
        if (extensionBytes > maxExtensionBytes) throw malformed(`a tar entry has more than ${maxExtensionBytes} bytes of extensions`);
        const content = await bytes.exactly(raw.size);
        await bytes.skip(padding(raw.size));
        if (raw.flag === "g") {
          parsePax(content, shared);
          if (shared.size > 1000) throw malformed("a tar has too many global records");
        } else if (raw.flag === "x") parsePax(content, pax);
        else pax.set(raw.flag === "L" ? "path" : "linkpath", cString(content));
        continue;
      }
      const entry = toEntry(raw, shared.size === 0 ? pax : new Map([...shared, ...pax]));
      if (pax.size > 0) pax = new Map();
      extensionBytes = 0;
      let left = entry.size;
      yield {
        entry,
        offset: bytes.position,
        async *body() {
          while (left > 0) {
            const chunk = await bytes.atMost(left);
            left -= chunk.length;
            yield chunk;
          }
        },
      };
      const unread = bytes.skipHere(left + padding(entry.size));
      if (unread > 0) await bytes.skip(unread);
    }
    if (extensionBytes > 0) throw truncated("a tar");
    await bytes.drain();
  } finally {
    await bytes.close();
  }
}

function cString(content: Buffer): string {
  const end = content.indexOf(0);
  return content.toString("latin1", 0, end === -1 ? content.length : end);
}

/** Bytes of a stream in the amounts that a tar needs. What is here already is taken without waiting: most headers are. */
class ByteReader {
  readonly #chunks: AsyncIterator<Buffer>;
  #chunk: Buffer = Buffer.alloc(0);
  /** Bytes of the chunk that were taken. */
  #at = 0;
  /** Bytes of the chunks before it. */
  #before = 0;

  constructor(source: AsyncIterable<Buffer>) {
    this.#chunks = source[Symbol.asyncIterator]();
  }

  /** Bytes that were taken. */
  get position(): number {
    return this.#before + this.#at;
  }

  /** `size` bytes, if they are here already. */
  take(size: number): Buffer | undefined {
    const end = this.#at + size;
    if (end > this.#chunk.length) return undefined;
    const part = this.#chunk.subarray(this.#at, end);
    this.#at = end;
    return part;
  }

  /** Skips what is here of `size` bytes; how many are left to skip. */
  skipHere(size: number): number {
    const skipped = Math.min(size, this.#chunk.length - this.#at);
    this.#at += skipped;
    return size - skipped;
  }

  /** The next header block, or undefined at the end of the input. */
  async block(): Promise<Buffer | undefined> {
    if (this.#at === this.#chunk.length && !(await this.#fill())) return undefined;
    return this.exactly(blockSize);
  }

  async exactly(size: number): Promise<Buffer> {
    const here = this.take(size);
    if (here) return here;
    const parts: Buffer[] = [];
    for (let missing = size; missing > 0;) {
      const part = await this.atMost(missing);
      parts.push(part);
      missing -= part.length;
    }
    return Buffer.concat(parts);
  }

  async atMost(size: number): Promise<Buffer> {
    if (this.#at === this.#chunk.length && !(await this.#fill())) throw truncated("a tar");
    const part = this.#chunk.subarray(this.#at, this.#at + size);
    this.#at += part.length;
    return part;
  }

  async skip(size: number): Promise<void> {
    for (let left = this.skipHere(size); left > 0; left = this.skipHere(left)) {
      if (!(await this.#fill())) throw truncated("a tar");
    }
  }

  async drain(): Promise<void> {
    while (await this.#fill());
  }

  async close(): Promise<void> {
    await this.#chunks.return?.();
  }

  /** Replaces the chunk, which must be used up or unwanted; false at the end. */
  async #fill(): Promise<boolean> {
    for (;;) {
      const next = await this.#chunks.next();
      if (next.done === true) return false;
      this.#before += this.#chunk.length;
      this.#chunk = next.value;
      this.#at = 0;
      if (next.value.length > 0) return true;
    }
  }
}
