// A database that does not answer is no bug of the call: it may be made again.
import { PitwallError } from "@pitwall/runtime";
import type { CallContext, ServerMiddlewareCall } from "nice-grpc";
import { isDatabaseAway } from "../store/store.ts";

/** Middleware below the error boundary. */
export async function* databaseBoundary<Req, Res>(
  call: ServerMiddlewareCall<Req, Res>,
  context: CallContext,
): AsyncGenerator<Awaited<Res>, Awaited<Res> | void, undefined> {
  try {
    return yield* call.next(call.request, context);
  } catch (cause) {
    throw databaseAway(cause) ?? cause;
  }
}

/** What a caller hears when it was the database; undefined when it was not. */
export function databaseAway(cause: unknown): PitwallError | undefined {
  if (!isDatabaseAway(cause)) return undefined;
  return new PitwallError("unavailable", "the database does not answer; try again, with the same request_id", {
    reason: "DATABASE_UNAVAILABLE",
    cause,
  });
}
