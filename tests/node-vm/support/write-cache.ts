// What a disk holds in its own memory: writes that no flush has followed yet, lost with the power, all or some of them.
import { readSync, writevSync } from "node:fs";

export const blockBytes = 4096;
/** A real one has no more either, and writes out its oldest when it is full. */
const mostBlocks = (64 * 2 ** 20) / blockBytes;
/** IOV_MAX of Linux. */
const mostBuffers = 1024;

/** Of a file that is the medium. Offsets and lengths are in bytes. */
export class WriteCache {
  readonly #file: number;
  readonly #mostBlocks: number;
  /** By number, the oldest write first. */
  readonly #blocks = new Map<number, Buffer>();

  constructor(file: number, most = mostBlocks) {
    this.#file = file;
    this.#mostBlocks = most;
  }

  get unflushedBlocks(): number {
    return this.#blocks.size;
  }

  read(offset: number, length: number): Buffer {
    const made = Buffer.allocUnsafe(length);
    made.fill(0, readSync(this.#file, made, 0, length, offset));
    if (this.#blocks.size === 0) return made;
    for (const { block, from, to, at } of piecesOf(offset, length)) this.#blocks.get(block)?.copy(made, at, from, to);
    return made;
  }

  write(offset: number, data: Buffer): void {
    for (const { block, from, to, at } of piecesOf(offset, data.length)) {
      const part = data.subarray(at, at + to - from);
      const whole = to - from === blockBytes ? Buffer.from(part) : this.read(block * blockBytes, blockBytes);
      if (to - from < blockBytes) part.copy(whole, from);
      this.#blocks.delete(block); // it is the youngest now
      this.#blocks.set(block, whole);
    }
    if (this.#blocks.size > this.#mostBlocks) this.#writeOut([...this.#blocks.keys()].slice(0, this.#blocks.size - this.#mostBlocks / 2));
  }

  /** All that was written so far outlasts the power. */
  flush(): void {
    this.#writeOut([...this.#blocks.keys()]);
  }

  /** Forgets what no flush has followed, but for the blocks that `isKept` names: those had reached the medium by chance, as on a real disk. */
  cutPower(isKept: (block: number) => boolean): void {
    this.#writeOut([...this.#blocks.keys()].filter(isKept));
    this.#blocks.clear();
  }

  #writeOut(numbers: readonly number[]): void {
    let run: number[] = [];
    for (const block of numbers.toSorted((a, b) => a - b)) {
      if (run.length === mostBuffers || (run.length > 0 && block !== run[0]! + run.length)) {
        this.#writeRun(run);
        run = [];
      }
      run.push(block);
    }
    this.#writeRun(run);
  }

  #writeRun(run: readonly number[]): void {
    if (run.length === 0) return;
    const buffers = run.map((block) => this.#blocks.get(block)!);
    const written = writevSync(this.#file, buffers, run[0]! * blockBytes);
    if (written !== run.length * blockBytes) throw Object.assign(new Error("the disk's file cannot grow"), { code: "ENOSPC" });
    for (const block of run) this.#blocks.delete(block);
  }
}

interface Piece {
  readonly block: number;
  /** Within the block. */
  readonly from: number;
  readonly to: number;
  /** Within the data. */
  readonly at: number;
}

function* piecesOf(offset: number, length: number): Generator<Piece> {
  for (let at = 0; at < length;) {
    const from = (offset + at) % blockBytes;
    const to = Math.min(blockBytes, from + length - at);
    yield { block: Math.floor((offset + at) / blockBytes), from, to, at };
    at += to - from;
  }
}
