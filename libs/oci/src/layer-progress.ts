// A layer while it is being written, for who wants its first files before its last are there.
// States: running -> complete | failed. Only its writer moves it.
import { open, type FileHandle } from "node:fs/promises";
import type { LayerFile } from "./layer-index.ts";
import type { TarEntry } from "./tar-header.ts";

export class LayerProgress {
  /** Those that are known; the content of the last may still be on its way. */
  entries: readonly TarEntry[] = [];
  offsets: readonly number[] = [];
  /** Bytes of the tar that can be read. */
  writtenBytes = 0;
  #state: "running" | "complete" | "failed" = "running";
  /** Where it is, last known first. */
  #paths: readonly string[] = [];
  #waiting = Promise.withResolvers<void>();

  get state(): "running" | "complete" | "failed" {
    return this.#state;
  }

  /** Its writer begins. */
  begin(path: string, entries: readonly TarEntry[], offsets: readonly number[]): void {
    this.#paths = [path];
    this.entries = entries;
    this.offsets = offsets;
  }

  advance(writtenBytes: number): void {
    this.writtenBytes = writtenBytes;
    this.#wake();
  }

  complete({ path, entries, offsets, sizeBytes }: LayerFile): void {
    this.#paths = [path, ...this.#paths];
    this.entries = entries;
    this.offsets = offsets;
    this.#state = "complete";
    this.advance(sizeBytes);
  }

  fail(): void {
    this.#state = "failed";
    this.#wake();
  }

  /** Resolves at the next change; at once when there will be none. */
  async changed(): Promise<void> {
    if (this.#state === "running") await this.#waiting.promise;
  }

  /** The file that has the written bytes; undefined when it was taken away, because the layer failed. */
  async open(): Promise<FileHandle | undefined> {
    // It may be renamed between the look and the opening, once.
    for (let attempt = 0; attempt < 2; attempt++) {
      for (const path of this.#paths) {
        const file = await open(path, "r").catch(() => undefined);
        if (file) return file;
      }
    }
    return undefined;
  }

  #wake(): void {
    this.#waiting.resolve();
    this.#waiting = Promise.withResolvers<void>();
  }
}
