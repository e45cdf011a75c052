// What every call has in common: the token, typed errors, and another try where that is safe.
import { ClientError, Metadata, Status, type ClientMiddleware, type ClientMiddlewareCall, type CallOptions } from "nice-grpc-common";
import { translate } from "./errors.ts";

const retryForMs = 8_000;
const firstWaitMs = 50;
const maxWaitMs = 1_000;

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

export const typedErrors: ClientMiddleware = async function* typed(call, options) {
  try {
    return yield* call.next(call.request, options);
  } catch (error) {
    throw translate(error);
  }
};

/** Repeats a unary call that found nobody (UNAVAILABLE), with growing, random waits, for at most 8 s. `onRetry` hears why, each time. */
export function retries(onRetry: (error: ClientError) => void): ClientMiddleware<CallExtras> {
  return async function* retry(call, { retry: mayRepeat, ...options }) {
    if (!mayRepeat || call.requestStream || call.responseStream) return yield* call.next(call.request, options);
    const deadline = Date.now() + retryForMs;
    for (let wait = firstWaitMs; ; wait = Math.min(wait * 2, maxWaitMs)) {
      try {
        return yield* call.next(call.request, options);
      } catch (error) {
        const isTransient = error instanceof ClientError && (error.code === Status.UNAVAILABLE || isNetworkFailure(error));
        if (!isTransient || options.signal?.aborted || Date.now() + wait > deadline) throw error;
        onRetry(error);
        await sleep(wait * (0.5 + Math.random() / 2), options.signal);
      }
    }
  };
}

/** A failed fetch has no gRPC status: nice-grpc-web reports it as UNKNOWN. */
function isNetworkFailure({ code, details }: ClientError): boolean {
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
