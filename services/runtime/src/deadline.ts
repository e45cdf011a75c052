// Client deadlines that reach the server.
import { Metadata, type ClientMiddleware } from "nice-grpc";

/** Puts `grpc-timeout` on the wire, which the library's own deadline middleware does not. */
export const wireDeadline: ClientMiddleware<{ timeoutMs?: number }> = async function* deadline(call, { timeoutMs, ...options }) {
  if (timeoutMs === undefined) return yield* call.next(call.request, options);
  const metadata = Metadata(options.metadata).set("grpc-timeout", `${Math.max(1, Math.ceil(timeoutMs))}m`);
  return yield* call.next(call.request, { ...options, metadata });
};
