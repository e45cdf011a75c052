// Many small buffers gathered into few large pieces, because each piece that leaves costs a way to another thread or process. Two buffers
// are used again and again: one is filled while the other leaves.

/** Takes a piece; resolves when it is done with the bytes, which are then overwritten. */
export type Sink = (piece: Buffer) => Promise<void>;

export const pieceBytes = 256 * 1024;

export class Pieces {
  readonly #sink: Sink;
  #piece = Buffer.allocUnsafeSlow(pieceBytes);
  #other = Buffer.allocUnsafeSlow(pieceBytes);
  #filled = 0;
  #leaving: Promise<void> = Promise.resolve();

  constructor(sink: Sink) {
    this.#sink = sink;
  }

  /** Copies. Throws what the sink threw at an earlier piece. */
  async add(bytes: Buffer): Promise<void> {
    for (let at = 0; at < bytes.length;) {
      const copied = bytes.copy(this.#piece, this.#filled, at);
      at += copied;
      this.#filled += copied;
      if (this.#filled === pieceBytes) await this.#leave();
    }
  }

  /** All is with the sink when this resolves. */
  async flush(): Promise<void> {
    await this.#leave();
    await this.#leaving;
  }

  async #leave(): Promise<void> {
    await this.#leaving;
    if (this.#filled === 0) return;
    this.#leaving = this.#sink(this.#piece.subarray(0, this.#filled));
    this.#leaving.catch(() => undefined); // awaited before the next piece and at the end
    [this.#piece, this.#other] = [this.#other, this.#piece];
    this.#filled = 0;
  }
}

/** The same bytes in pieces of at least `bytes`, save the last. */
export async function* gathered(source: AsyncIterable<Buffer>, bytes: number): AsyncGenerator<Buffer> {
  let parts: Buffer[] = [];
  let size = 0;
  for await (const chunk of source) {
    parts.push(chunk);
    size += chunk.length;
    if (size < bytes) continue;
    yield parts.length === 1 ? chunk : Buffer.concat(parts, size);
    parts = [];
    size = 0;
  }
  if (size > 0) yield Buffer.concat(parts, size);
}
