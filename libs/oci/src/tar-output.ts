// A tar on its way out: many small headers and files gathered into few large pieces, in two buffers that are used again and again: one is
// filled while the other leaves.
import type { FileHandle } from "node:fs/promises";
import type { Writable } from "node:stream";
import { malformed } from "./image-error.ts";
import { encodeHeader, padding, type TarEntry } from "./tar-header.ts";

/** Takes a piece; resolves when it is done with the bytes, which are then overwritten. */
export type Sink = (piece: Buffer) => Promise<void>;

const pieceBytes = 512 * 1024;
const noBytes = Buffer.alloc(1024);

export class TarOutput {
  readonly #sink: Sink;
  #piece = Buffer.allocUnsafeSlow(pieceBytes);
  #other = Buffer.allocUnsafeSlow(pieceBytes);
  #filled = 0;
  #leaving: Promise<void> = Promise.resolve();

  constructor(sink: Sink) {
    this.#sink = sink;
  }

  async header(entry: TarEntry): Promise<void> {
    await this.#add(encodeHeader(entry));
  }

  /** What comes after the content of a file of `size` bytes. */
  async padding(size: number): Promise<void> {
    await this.#add(noBytes.subarray(0, padding(size)));
  }

  async content(bytes: Buffer): Promise<void> {
    await this.#add(bytes);
  }

  /** The end mark; all is with the sink when this resolves. */
  async end(): Promise<void> {
    await this.#add(noBytes);
    await this.#flush();
    await this.#leaving;
  }

  async #add(bytes: Buffer): Promise<void> {
    for (let at = 0; at < bytes.length;) {
      const copied = bytes.copy(this.#piece, this.#filled, at);
      at += copied;
      this.#filled += copied;
      if (this.#filled === pieceBytes) await this.#flush();
    }
  }

  async #flush(): Promise<void> {
    await this.#leaving;
    if (this.#filled === 0) return;
    this.#leaving = this.#sink(this.#piece.subarray(0, this.#filled));
    this.#leaving.catch(() => undefined); // awaited before the next piece and at the end
    [this.#piece, this.#other] = [this.#other, this.#piece];
    this.#filled = 0;
  }
}

/** Reads a file forwards in large pieces, of which callers take small ones before they ask for the next. */
export class Window {
  readonly #file: FileHandle;
  readonly #buffer = Buffer.allocUnsafeSlow(pieceBytes);
  #start = 0;
  #filled = 0;

  constructor(file: FileHandle) {
    this.#file = file;
  }

  /** 1 to `most` bytes at `position`; nothing at `end` or after it is looked at. Throws `corrupt` when the file has no byte there. */
  async read(position: number, most: number, end: number): Promise<Buffer> {
    let from = position - this.#start;
    if (from < 0 || from >= this.#filled) {
      const { bytesRead } = await this.#file.read(this.#buffer, 0, Math.min(pieceBytes, end - position), position);
      if (bytesRead === 0) throw malformed("a layer changed while it was read");
      this.#start = position;
      this.#filled = bytesRead;
      from = 0;
    }
    return this.#buffer.subarray(from, Math.min(from + most, this.#filled));
  }
}

/** A sink that writes to a stream and waits until it has gone. */
export function sinkOf(stream: Writable): Sink {
  return (piece) =>
    new Promise((resolve, reject) => {
      stream.write(piece, (error) => (error ? reject(error) : resolve()));
    });
}
