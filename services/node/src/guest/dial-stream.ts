// A Dial call as a Duplex, with back-pressure and half-close both ways.
import { Duplex } from "node:stream";
import type * as wire from "@pitwall/proto/pitwall/v1/guest.ts";

const chunkBytes = 32 * 1024;

/** `call` starts the RPC with the requests that it is given. The stream fails when the call does. */
export class DialStream extends Duplex {
  readonly #abort = new AbortController();
  #waiting: { readonly chunk: Buffer; readonly done: () => void } | undefined;
  #finished = false;
  #wakeWriter: (() => void) | undefined;
  #wakeReader: (() => void) | undefined;
  /** Resolves when the target has accepted, rejects with the call's error. */
  readonly accepted: Promise<void>;

  constructor(
    target: wire.DialRequest,
    call: (requests: AsyncIterable<wire.DialRequest>, signal: AbortSignal) => AsyncIterable<wire.DialResponse>,
  ) {
    super({ allowHalfOpen: true, highWaterMark: 2 * chunkBytes });
    this.accepted = new Promise((resolve, reject) => {
      void this.#pump(call(this.#requests(target), this.#abort.signal), resolve, reject);
    });
    this.accepted.catch(() => undefined); // also told by `error`
  }

  async #pump(responses: AsyncIterable<wire.DialResponse>, accept: () => void, refuse: (error: unknown) => void): Promise<void> {
    try {
      for await (const { message } of responses) {
        if (message?.$case === "accepted") accept();
        else if (message?.$case === "data" && message.value.length === 0) this.push(null);
        else if (message?.$case === "data" && !this.push(message.value)) {
          await new Promise<void>((resolve) => {
            this.#wakeReader = resolve;
          });
        }
      }
      if (!this.readableEnded) this.push(null);
      this.#finished = true;
      this.#wakeWriter?.();
    } catch (error) {
      refuse(error);
      this.destroy(error instanceof Error ? error : new Error(String(error)));
    }
  }

  async *#requests(target: wire.DialRequest): AsyncGenerator<wire.DialRequest> {
    yield target;
    for (;;) {
      if (this.#waiting) {
        const { chunk, done } = this.#waiting;
        this.#waiting = undefined;
        for (let at = 0; at < chunk.length; at += chunkBytes) {
          yield { message: { $case: "data", value: chunk.subarray(at, at + chunkBytes) } };
        }
        done();
      } else if (this.#finished || this.destroyed) return;
      else {
        await new Promise<void>((resolve) => {
          this.#wakeWriter = resolve;
        });
      }
    }
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    this.#waiting = { chunk, done };
    this.#wakeWriter?.();
  }

  override _final(done: () => void): void {
    this.#finished = true;
    this.#wakeWriter?.();
    done();
  }

  override _read(): void {
    this.#wakeReader?.();
    this.#wakeReader = undefined;
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    this.#finished = true;
    this.#abort.abort();
    this.#wakeWriter?.();
    this.#wakeReader?.();
    done(error);
  }
}
