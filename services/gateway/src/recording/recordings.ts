// The recordings that this gateway makes. Disposing it waits, for a moment, until those whose sessions have ended are stored.
import { systemClock } from "@pitwall/runtime";
import { Recorder, type Recorded, type RecorderParts } from "./recorder.ts";

const patienceMs = 5_000;

/** To be shown before the first byte of what is recorded, on stderr: stdout is the command's. */
export const notice =
  "pitwall: what this session shows is recorded, and owners of the VM's project may watch it as it happens; by going on you consent\r\n";

export class Recordings implements AsyncDisposable {
  readonly #parts: RecorderParts;
  readonly #live = new Set<Recorder>();

  constructor(parts: RecorderParts) {
    this.#parts = parts;
  }

  /** As {@link Recorder.open}. */
  async open(recorded: Recorded, failed: (why: string) => void): Promise<Recorder> {
    const recorder = await Recorder.open(this.#parts, recorded, failed);
    this.#live.add(recorder);
    void recorder.closed.then(() => this.#live.delete(recorder));
    return recorder;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const all = Promise.all([...this.#live].map((recorder) => recorder.close("the gateway stops")));
    const late = new AbortController();
    await Promise.race([all, systemClock.sleep(patienceMs, late.signal).catch(() => undefined)]);
    late.abort();
  }
}
