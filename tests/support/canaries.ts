// Secrets made up for a test, and where they are found: in files, in memory, in any of the spellings that programs give them.
import { randomBytes } from "node:crypto";
import { open, readdir, readFile } from "node:fs/promises";
import { join } from "node:path";

/** Secrets of one run. All share a stem that nothing else has, and hold characters that JSON, URLs and shells spell in their own ways. */
export class Canaries {
  readonly #stem = randomBytes(12).toString("hex");
  readonly #names: string[] = [];

  /** A new secret; `what` is what it is, for people. */
  add(what: string): string {
    this.#names.push(what);
    return `c/+"${this.#stem}${String(this.#names.length - 1).padStart(3, "0")}&`;
  }

  get names(): readonly string[] {
    return this.#names;
  }

  /** Whatever of them `content` gives away. */
  in(content: Buffer): string[] {
    const found: string[] = [];
    for (const { bytes, read } of this.#spellings()) {
      for (let at = content.indexOf(bytes); at !== -1; at = content.indexOf(bytes, at + 1)) {
        const number = /^\d{3}/.exec(read(content.subarray(at)))?.[0];
        found.push((number !== undefined && this.#names[Number(number)]) || "a secret");
      }
    }
    return found;
  }

  /** Longer than all spellings. */
  get reach(): number {
    return 4 * this.#stem.length;
  }

  /** How the stem may be written, and what comes after it there. */
  #spellings(): { bytes: Buffer; read: (from: Buffer) => string }[] {
    const stem = this.#stem;
    const after = (from: Buffer, length: number): string => from.subarray(length, length + 3).toString("latin1");
    const plain = [stem, stem.toUpperCase()].map((text) => ({
      bytes: Buffer.from(text),
      read: (from: Buffer) => after(from, text.length),
    }));
    const hex = Buffer.from(Buffer.from(stem).toString("hex"));
    const wide = Buffer.from(stem, "utf16le");
    // In base64 a text has three looks, by where it begins.
    const base64 = [0, 1, 2].map((shift) => {
      const skipped = shift === 0 ? 0 : 3 - shift;
      const whole = stem.slice(skipped, skipped + Math.floor((stem.length - skipped) / 3) * 3);
      return {
        bytes: Buffer.from(Buffer.from(whole).toString("base64")),
        read: (from: Buffer) =>
          Buffer.from(from.subarray(0, 64).toString("latin1"), "base64")
            .toString("latin1")
            .slice(stem.length - skipped),
      };
    });
    return [
      ...plain,
      ...base64,
      { bytes: hex, read: (from) => Buffer.from(from.subarray(hex.length, hex.length + 6).toString("latin1"), "hex").toString("latin1") },
      { bytes: wide, read: (from) => from.subarray(wide.length, wide.length + 6).toString("utf16le") },
    ];
  }
}

/** Looks for canaries in anything; remembers which were found, and where. */
export class Search {
  readonly #canaries: Canaries;
  readonly found = new Set<string>();
  readonly places = new Set<string>();
  seenBytes = 0;

  constructor(canaries: Canaries) {
    this.#canaries = canaries;
  }

  bytes(where: string, content: Buffer): void {
    this.seenBytes += content.length;
    for (const what of this.#canaries.in(content)) {
      this.found.add(what);
      this.places.add(`${what}: ${where}`);
    }
  }

  /** All files below a folder, and their names. */
  async folder(dir: string): Promise<void> {
    for (const entry of await readdir(dir, { recursive: true, withFileTypes: true })) {
      const path = join(entry.parentPath, entry.name);
      this.bytes(`the name of ${path}`, Buffer.from(path));
      if (entry.isFile()) await this.#pieces(path, [[0, Infinity]]);
    }
  }

  /** Arguments and environment of a process. */
  async words(pid: number): Promise<void> {
    for (const name of ["cmdline", "environ"])
      this.bytes(`${name} of ${pid}`, await ofLiving(readFile(`/proc/${pid}/${name}`), Buffer.alloc(0)));
  }

  /** All that a core of a process would hold. */
  async memory(pid: number): Promise<void> {
    const ranges = (await ofLiving(readFile(`/proc/${pid}/maps`, "latin1"), "")).split("\n").flatMap((line): [number, number][] => {
      const [, from = "", to = ""] = /^([0-9a-f]+)-([0-9a-f]+) r(?!.*\[v)/.exec(line) ?? []; // not what the kernel shows of itself
      return from === "" ? [] : [[Number.parseInt(from, 16), Number.parseInt(to, 16)]];
    });
    await ofLiving(this.#pieces(`/proc/${pid}/mem`, ranges), undefined);
  }

  async #pieces(path: string, ranges: readonly (readonly [from: number, to: number])[]): Promise<void> {
    await using file = await open(path, "r");
    const buffer = Buffer.alloc(2 ** 22);
    for (const [from, to] of ranges) {
      for (let at = from; at < to;) {
        // What a process gives back meanwhile is not its memory any more.
        const { bytesRead } = await file.read(buffer, 0, Math.min(buffer.length, to - at), at).catch(() => ({ bytesRead: 0 }));
        this.bytes(path, buffer.subarray(0, bytesRead));
        if (bytesRead <= this.#canaries.reach) break;
        at += bytesRead - this.#canaries.reach; // what lies across two pieces is seen as well
        if (bytesRead < buffer.length) break;
      }
    }
  }
}

/** What was read of a process; `none` when it has ended meanwhile. */
async function ofLiving<T>(read: Promise<T>, none: T): Promise<T> {
  return read.catch((error: unknown) => {
    if (error instanceof Error && "code" in error && (error.code === "ENOENT" || error.code === "ESRCH")) return none;
    throw error;
  });
}
