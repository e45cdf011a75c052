// The bytes of a local blob in parts, verified while they are read. Parts that follow each other are read once; going back, or to a part
// farther on, reads from the beginning, because the digest is of all bytes.
import type { Readable } from "node:stream";
import { verified } from "./inflate.ts";
import type { PushableBlob } from "./pushable.ts";

interface Opened {
  readonly source: Readable;
  readonly chunks: AsyncIterator<Buffer>;
  /** Bytes that were taken. */
  at: number;
  rest: Buffer;
}

const nothing = Buffer.alloc(0);

export class BlobReader {
  readonly #blob: PushableBlob;
  readonly #signal: AbortSignal;
  #opened: Opened | undefined;

  constructor(blob: PushableBlob, signal: AbortSignal) {
    this.#blob = blob;
    this.#signal = signal;
  }

  /**
   * `count` bytes from `from` on, read by one at a time: who leaves before the end must {@link close}. Throws `corrupt`, and before the
   * blob's last bytes are out, when they are not what its digest says.
   */
  async *part(from: number, count: number): AsyncGenerator<Buffer> {
    if (this.#opened && this.#opened.at !== from) this.close();
    const opened = (this.#opened ??= await this.#open());
    while (opened.at < from) await this.#take(opened, from - opened.at);
    for (let left = count; left > 0;) {
      const chunk = await this.#take(opened, left);
      left -= chunk.length;
      if (left === 0) await this.#check(opened);
      yield chunk;
    }
  }

  close(): void {
    this.#opened?.source.destroy();
    this.#opened = undefined;
  }

  async #open(): Promise<Opened> {
    const source = await this.#blob.open();
    source.on("error", () => undefined); // told to who reads it
    // It has no encoding set.
    return { source, chunks: verified(source as AsyncIterable<Buffer>, this.#blob, this.#signal), at: 0, rest: nothing };
  }

  /** 1 to `most` bytes. */
  async #take(opened: Opened, most: number): Promise<Buffer> {
    while (opened.rest.length === 0) {
      const next = await opened.chunks.next();
      if (next.done === true) throw new Error("a blob was read beyond its end"); // verified() has refused a shorter one
      opened.rest = next.value;
    }
    const chunk = opened.rest.subarray(0, most);
    opened.rest = opened.rest.subarray(chunk.length);
    opened.at += chunk.length;
    return chunk;
  }

  /** At the end of the blob, has it compared with its digest. */
  async #check(opened: Opened): Promise<void> {
    if (opened.at === this.#blob.sizeBytes && opened.rest.length === 0) await opened.chunks.next();
  }
}
