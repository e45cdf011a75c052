// How a server stops: calls that it has no more time for hear that they may be made again, whatever they wait for.
//
// Without this word they would hear of a broken connection, and one of them, by a whim of HTTP/2, of an internal error. What such a call has
// begun goes on until it is done or the process ends: whoever repeats it says the same request_id.
import { sleepOrAbort, type PitwallError } from "@pitwall/runtime";
import type { Server } from "nice-grpc";
import { stopping } from "../store/turns.ts";

const drainMs = 3_000;
/** For the answers of those that are left. */
const lastAnswersMs = 500;

/** Waits for calls in flight, but not for ever: grpc-js keeps idle connections open. Those of `open` that are left are answered. */
export async function drain(server: Pick<Server, "shutdown" | "forceShutdown">, open?: OpenCalls): Promise<void> {
  const closed = server.shutdown();
  await within(drainMs, closed);
  open?.end();
  if (open) await within(lastAnswersMs, closed);
  server.forceShutdown();
}

async function within(ms: number, work: Promise<void>): Promise<void> {
  const over = new AbortController();
  await Promise.race([work, sleepOrAbort(ms, over.signal)]);
  over.abort();
}

/** Answers a call, once. */
type Refuse = (error: PitwallError) => void;

export class OpenCalls {
  readonly #open = new Set<Refuse>();
  #isOver = false;

  /** A call has come; it is open until it is {@link over}. */
  begun(refuse: Refuse): void {
    this.#open.add(refuse);
    if (this.#isOver) refuse(stopping());
  }

  over(refuse: Refuse): void {
    this.#open.delete(refuse);
  }

  /** All that are open now are refused, and all that come. */
  end(): void {
    this.#isOver = true;
    for (const refuse of this.#open) refuse(stopping());
  }
}
