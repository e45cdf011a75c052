// How a server stops: calls of one answer that it has no more time for hear that they may be made again.
//
// Without this word they would hear of a broken connection, and one of them, by a whim of HTTP/2, of an internal error. What such a call has
// begun goes on until it is done or the process ends: whoever repeats it says the same request_id.
import { PitwallError, sleepOrAbort } from "@pitwall/runtime";
import type { CallContext, Server, ServerMiddlewareCall } from "nice-grpc";

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

export class OpenCalls {
  readonly #open = new Set<(error: PitwallError) => void>();
  #isOver = false;

  /** All that are open now are refused, and all that come. */
  end(): void {
    this.#isOver = true;
    for (const refuse of this.#open) refuse(stopping());
  }

  /** Middleware below the error boundary. Streams are ended by who makes them. */
  async *follow<Req, Res>(
    call: ServerMiddlewareCall<Req, Res>,
    context: CallContext,
  ): AsyncGenerator<Awaited<Res>, Awaited<Res> | void, undefined> {
    if (call.responseStream) return yield* call.next(call.request, context);
    if (this.#isOver) throw stopping();
    const { promise: refused, reject } = Promise.withResolvers<never>();
    this.#open.add(reject);
    try {
      const { value } = await Promise.race([call.next(call.request, context).next(), refused]);
      return value;
    } finally {
      this.#open.delete(reject);
    }
  }
}

function stopping(): PitwallError {
  return new PitwallError("unavailable", "the controller stops; try again, with the same request_id", { reason: "DRAINING" });
}
