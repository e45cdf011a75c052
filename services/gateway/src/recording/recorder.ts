// One recording: what a session shows becomes lines of an asciicast, and goes to a controller in parts, in their order.
//
// State: lines that are not stored yet, never more than `maxWaitingBytes` and what one call of `output` brings: whoever shows something waits
// until there is room. States: open -> failed (nothing is stored any more; `failed` was told, and the session must end) -> closed; or
// open -> closed. What was not stored when this process ends is lost with it: the last half second, as a rule.
import { randomUUID } from "node:crypto";
import { backoff, PitwallError, type Clock, type Log } from "@pitwall/runtime";
import { fromRpc, type AccessClient } from "../controller-link.ts";
import { headerLine, markerLine, outputLine, resizeLine } from "./asciicast.ts";

const callLimitMs = 5_000;
/** So long a controller is looked for before the session ends. */
const patienceMs = 15_000;
const firstRetryMs = 50;
const maxRetryMs = 1_000;
/** So long at most before what was shown is stored, and others can see it. */
const flushMs = 500;
/** A controller takes a recording for lost after a minute of silence. */
const aliveMs = 10_000;
/** As soon as so much waits. */
const storeBytes = 64 * 1024;
const maxWaitingBytes = 256 * 1024;
const maxPartBytes = 256 * 1024;
/** Of one event: each byte is at most six in JSON. */
const maxPieceBytes = 16 * 1024;

export type RecordingClient = Pick<AccessClient, "openRecording" | "appendRecording" | "closeRecording">;

export interface RecorderParts {
  readonly access: () => RecordingClient;
  readonly clock: Pick<Clock, "monotonicMs" | "wallMs" | "sleep" | "after">;
  readonly log: Log;
}

/** What is recorded. */
export interface Recorded {
  readonly sessionId: string;
  /** Empty for a shell. */
  readonly command: string;
  /** Undefined without a terminal. */
  readonly terminal: { readonly columns: number; readonly rows: number; readonly term: string } | undefined;
  readonly title: string;
}

/** Of what the session shows: each is text of its own, whose characters may be cut by the other. */
export type Shown = "stdout" | "stderr";

export class Recorder {
  readonly id = randomUUID();
  readonly #parts: RecorderParts;
  readonly #failed: (why: string) => void;
  readonly #decoders = { stdout: new TextDecoder(), stderr: new TextDecoder() };
  readonly #beganMs: number;
  #lines: string[] = [];
  #waitingBytes = 0;
  #part = 0;
  #timer: { readonly ms: number; readonly stop: Disposable } | undefined;
  #storing: Promise<void> | undefined;
  #isClosing = false;
  #hasFailed = false;
  #closing: Promise<void> | undefined;
  readonly #closed = Promise.withResolvers<void>();

  private constructor(parts: RecorderParts, failed: (why: string) => void) {
    this.#parts = parts;
    this.#failed = failed;
    this.#beganMs = parts.clock.monotonicMs();
  }

  /**
   * Once a controller has taken its beginning. Throws what the controller said, `unavailable` when none answered. `failed` is called at most
   * once, when what is shown can no longer be stored.
   */
  static async open(
    parts: RecorderParts,
    { sessionId, command, terminal, title }: Recorded,
    failed: (why: string) => void,
  ): Promise<Recorder> {
    const recorder = new Recorder(parts, failed);
    const request = { recordingId: recorder.id, sessionId, command, hasTerminal: terminal !== undefined };
    await recorder.#patiently(() => parts.access().openRecording(request, { timeoutMs: callLimitMs }));
    recorder.#add(
      headerLine({
        ...{ columns: terminal?.columns ?? 80, rows: terminal?.rows ?? 24, term: terminal?.term ?? "" },
        ...{ atSeconds: Math.floor(parts.clock.wallMs() / 1_000), command, title },
      }),
    );
    return recorder;
  }

  /** Resolves when more may be shown. Rejects once it has failed. */
  async output(bytes: Uint8Array, shown: Shown): Promise<void> {
    for (let at = 0; at < bytes.length; at += maxPieceBytes) {
      while (this.#waitingBytes >= maxWaitingBytes && !this.#hasFailed) await this.#store();
      if (this.#hasFailed)
        throw new PitwallError("unavailable", "the session's recording cannot be stored", { reason: "RECORDING_FAILED" });
      if (this.#isClosing) return;
      const text = this.#decoders[shown].decode(bytes.subarray(at, at + maxPieceBytes), { stream: true });
      if (text !== "") this.#add(outputLine(this.#seconds(), text));
    }
  }

  resized(columns: number, rows: number): void {
    if (!this.#isClosing) this.#add(resizeLine(this.#seconds(), columns, rows));
  }

  /** Stores what is left, and how the session ended, in words. Never rejects; said again, it waits for the first. */
  close(end: string): Promise<void> {
    this.#closing ??= this.#close(end).then(() => this.#closed.resolve());
    return this.#closing;
  }

  /** Resolves once {@link close} has done what it does. */
  get closed(): Promise<void> {
    return this.#closed.promise;
  }

  async #close(end: string): Promise<void> {
    if (end !== "") this.#add(markerLine(this.#seconds(), end));
    this.#isClosing = true;
    this.#timer?.stop[Symbol.dispose]();
    try {
      while (this.#lines.length > 0 && !this.#hasFailed) await this.#store();
      const request = { recordingId: this.id, end };
      await this.#patiently(() => this.#parts.access().closeRecording(request, { timeoutMs: callLimitMs }));
    } catch (error) {
      this.#parts.log.warn("the end of a recording could not be stored", { recording: this.id, error });
    }
  }

  #seconds(): number {
    return (this.#parts.clock.monotonicMs() - this.#beganMs) / 1_000;
  }

  #add(line: string): void {
    if (this.#hasFailed) return;
    this.#lines.push(line);
    this.#waitingBytes += Buffer.byteLength(line);
    if (this.#waitingBytes >= storeBytes) void this.#store();
    else this.#schedule();
  }

  #schedule(): void {
    const isWaited = this.#timer !== undefined && (this.#lines.length === 0 || this.#timer.ms === flushMs);
    if (this.#isClosing || this.#hasFailed || this.#storing || isWaited) return;
    this.#timer?.stop[Symbol.dispose]();
    const ms = this.#lines.length > 0 ? flushMs : aliveMs;
    this.#timer = { ms, stop: this.#parts.clock.after(ms, () => void this.#store()) };
  }

  /** One part, or none, which keeps the recording alive. One call at a time; never rejects. */
  #store(): Promise<void> {
    this.#timer?.stop[Symbol.dispose]();
    this.#timer = undefined;
    this.#storing ??= this.#storeOnce().finally(() => {
      this.#storing = undefined;
      this.#schedule();
    });
    return this.#storing;
  }

  async #storeOnce(): Promise<void> {
    const taken: string[] = [];
    let bytes = 0;
    for (const line of this.#lines) {
      bytes += Buffer.byteLength(line);
      if (taken.length > 0 && bytes > maxPartBytes) break;
      taken.push(line);
    }
    const request = { recordingId: this.id, part: this.#part, data: Buffer.from(taken.join("")) };
    try {
      await this.#patiently(() => this.#parts.access().appendRecording(request, { timeoutMs: callLimitMs }));
      if (taken.length > 0) this.#part++;
      this.#lines = this.#lines.slice(taken.length);
      this.#waitingBytes -= request.data.length;
    } catch (error) {
      this.#hasFailed = true;
      this.#lines = [];
      this.#parts.log.warn("a session is ended: its recording cannot be stored", { recording: this.id, error });
      const isFull = error instanceof PitwallError && error.fault === "exhausted";
      this.#failed(isFull ? error.message : "the session's recording cannot be stored");
    }
  }

  /** Again and again while no controller answers, for a while. Calls may be made twice. */
  async #patiently(call: () => Promise<unknown>): Promise<void> {
    const { clock } = this.#parts;
    const deadline = clock.monotonicMs() + patienceMs;
    const wait = backoff(firstRetryMs, maxRetryMs);
    for (;;) {
      try {
        await call();
        return;
      } catch (error) {
        const why = fromRpc(error);
        const isTransient = why instanceof PitwallError && ["unavailable", "deadline", "race"].includes(why.fault);
        if (!isTransient || clock.monotonicMs() > deadline) throw why;
      }
      await clock.sleep(firstRetryMs + wait.nextMs());
    }
  }
}
