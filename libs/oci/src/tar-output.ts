// A tar on its way out, and the window through which content comes in.
import type { FileHandle } from "node:fs/promises";
import type { Writable } from "node:stream";
import { malformed } from "./image-error.ts";
import { pieceBytes, Pieces, type Sink } from "./pieces.ts";
import { encodeHeader, padding, type TarEntry } from "./tar-header.ts";

const noBytes = Buffer.alloc(1024);

export class TarOutput {
  readonly #pieces: Pieces;

  constructor(sink: Sink) {
    this.#pieces = new Pieces(sink);
  }

  async header(entry: TarEntry): Promise<void> {
    await this.#pieces.add(encodeHeader(entry));
  }

  /** What comes after the content of a file of `size` bytes. */
  async padding(size: number): Promise<void> {
    await this.#pieces.add(noBytes.subarray(0, padding(size)));
  }

  async content(bytes: Buffer): Promise<void> {
    await this.#pieces.add(bytes);
  }

  /** The end mark; all is with the sink when this resolves. */
  async end(): Promise<void> {
    await this.#pieces.add(noBytes);
    await this.#pieces.flush();
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
