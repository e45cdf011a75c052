// What every call has in common: the token, typed errors, and another try where that is safe.
import { ClientError, Metadata, Status, type ClientMiddleware, type ClientMiddlewareCall, type CallOptions } from "nice-grpc-common";
import { RichClientError } from "nice-grpc-error-details";
import { PitwallRpcError, translate } from "./errors.ts";

const retryForMs = 8_000;
const firstWaitMs = 50;
const maxWaitMs = 1_000;

/** How soon a stream that broke off is begun again. */
export const reconnectMs = 300;

/** Whether a stream that ended so may go on at another time. */
export function isPassing(error: unknown): boolean {
  return error instanceof PitwallRpcError && ["UNAVAILABLE", "UNKNOWN", "CANCELLED", "INTERNAL"].includes(error.code);
}

export interface CallExtras {
  /** Only for calls that may safely be made twice. */
  retry?: boolean;
}

/** Asks for a token before each call. */
export function withToken(token: () => Promise<string>): ClientMiddleware {
  return async function* authorize<Req, Res>(call: ClientMiddlewareCall<Req, Res>, options: CallOptions) {
    const metadata = Metadata(options.metadata).set("authorization", `Bearer ${await token()}`);
    return yield* call.next(call.request, { ...options, metadata });
  };
}

/**
 * Ends a stream with its reader: nice-grpc-web 3.3 leaves the connection of one that is left early open, and with it the call on the
 * server. The signal must abort before the stream is told to return: the transport listens to it until then (transports/fetch.js), and
 * `fetch` itself forgets its signal once the request was collected.
 */
export const endWithReader: ClientMiddleware = async function* ending(call, { signal, ...options }) {
  if (!call.responseStream) return yield* call.next(call.request, { ...options, ...(signal && { signal }) });
  const left = new AbortController();
  const stream = call.next(call.request, { ...options, signal: signal ? AbortSignal.any([signal, left.signal]) : left.signal });
  try {
    for (;;) {
      const { done, value } = await stream.next();
      if (done === true) return value;
      yield value;
    }
  } finally {
    left.abort();
    await stream.return(undefined).catch(() => undefined); // it says that it was aborted
  }
};

export const typedErrors: ClientMiddleware = async function* typed(call, options) {
  try {
    return yield* call.next(call.request, options);
  } catch (error) {
    throw translate(error);
  }
};

/**
 * Repeats a unary call that found nobody (UNAVAILABLE), with growing, random waits, and one that came too often, when the server says it
 * may; for at most 8 s. `onRetry` hears why, each time.
 */
export function retries(onRetry: (error: ClientError) => void): ClientMiddleware<CallExtras> {
  return async function* retry(call, { retry: mayRepeat, ...options }) {
    if (!mayRepeat || call.requestStream || call.responseStream) return yield* call.next(call.request, options);
    const deadline = Date.now() + retryForMs;
    for (let wait = firstWaitMs; ; wait = Math.min(wait * 2, maxWaitMs)) {
      try {
        return yield* call.next(call.request, options);
      } catch (error) {
        if (!(error instanceof ClientError) || options.signal?.aborted) throw error;
        const askedMs = retryDelayMs(error);
        const isTransient = error.code === Status.UNAVAILABLE || isNetworkFailure(error) || askedMs !== undefined;
        const pause = Math.max(askedMs ?? 0, wait * (0.5 + Math.random() / 2));
        if (!isTransient || Date.now() + pause > deadline) throw error;
        if (askedMs === undefined) onRetry(error);
        await sleep(pause, options.signal);
      }
    }
  };
}

/** When the server says that another try may succeed: for callers that are too quick. */
function retryDelayMs(error: ClientError): number | undefined {
  if (error.code !== Status.RESOURCE_EXHAUSTED || !(error instanceof RichClientError)) return undefined;
  const [delay] = error.extra.flatMap((detail) =>
    detail.$type === "google.rpc.RetryInfo" && detail.retryDelay ? [detail.retryDelay] : [],
  );
  return delay && delay.seconds * 1000 + delay.nanos / 1e6;
}

/** A failed fetch has no gRPC status: nice-grpc-web reports it as UNKNOWN. */
export function isNetworkFailure({ code, details }: ClientError): boolean {
  return code === Status.UNKNOWN && /fetch|network|transport/i.test(details);
}

/** Resolves after `ms`, or at once when the signal aborts. */
export async function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  if (signal?.aborted) return;
  await new Promise<void>((resolve) => {
    const done = (): void => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    signal?.addEventListener("abort", done);
  });
}

/** Messages are optional on the wire, and always there in the answers that are given to this. */
export function present<T>(value: T | undefined): T {
  if (value === undefined) throw new Error("the server's answer is incomplete");
  return value;
}
