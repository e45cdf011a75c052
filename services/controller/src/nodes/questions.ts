// What one session's node was asked and has not answered yet. A question ends with its answer, its signal, or the session.
import { randomUUID } from "node:crypto";
import { onAbort, PitwallError } from "@pitwall/runtime";

/** Of one kind. */
export class Questions<Command, Answer extends { readonly requestId: string }> {
  readonly #send: (requestId: string, command: Command) => boolean;
  readonly #open = new Map<string, PromiseWithResolvers<Answer>>();
  #isClosed = false;

  /** `send` returns false when the node cannot be told any more. */
  constructor(send: (requestId: string, command: Command) => boolean) {
    this.#send = send;
  }

  /** Throws `unavailable` when the session ends first, else the signal's reason. A refusal is an answer. */
  async ask(command: Command, signal: AbortSignal): Promise<Answer> {
    signal.throwIfAborted();
    const requestId = randomUUID();
    const answer = Promise.withResolvers<Answer>();
    const stay = onAbort(signal, () => answer.reject(signal.reason));
    this.#open.set(requestId, answer);
    try {
      if (this.#isClosed || !this.#send(requestId, command)) throw ended();
      return await answer.promise;
    } finally {
      this.#open.delete(requestId);
      stay();
    }
  }

  /** One that nobody waits for any more is dropped. */
  answer(answer: Answer): void {
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
