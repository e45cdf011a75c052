// What one session's node was asked and has not answered yet. A question ends with its answer, its signal, or the session.
import { randomUUID } from "node:crypto";
import type { ConnectResponse, ImageAnswer, ImageCommand } from "@pitwall/proto/pitwall/v1/link.ts";
import { onAbort, PitwallError, type Outbox } from "@pitwall/runtime";

export class Questions {
  readonly #outbox: Outbox<ConnectResponse>;
  readonly #open = new Map<string, PromiseWithResolvers<ImageAnswer>>();
  #isClosed = false;

  constructor(outbox: Outbox<ConnectResponse>) {
    this.#outbox = outbox;
  }

  /** Throws `unavailable` when the session ends first, else the signal's reason. A refusal is an answer. */
  async ask(command: NonNullable<ImageCommand["command"]>, signal: AbortSignal): Promise<ImageAnswer> {
    signal.throwIfAborted();
    const requestId = randomUUID();
    const answer = Promise.withResolvers<ImageAnswer>();
    const stay = onAbort(signal, () => answer.reject(signal.reason));
    this.#open.set(requestId, answer);
    try {
      if (this.#isClosed || !this.#outbox.push({ message: { $case: "imageCommand", value: { requestId, command } } })) throw ended();
      return await answer.promise;
    } finally {
      this.#open.delete(requestId);
      stay();
    }
  }

  /** One that nobody waits for any more is dropped. */
  answer(answer: ImageAnswer): void {
    this.#open.get(answer.requestId)?.resolve(answer);
  }

  close(): void {
    this.#isClosed = true;
    for (const { reject } of this.#open.values()) reject(ended());
  }
}

function ended(): PitwallError {
  return new PitwallError("unavailable", "the node's link ended before it answered; ask again", { reason: "NODE_UNREACHABLE" });
}
