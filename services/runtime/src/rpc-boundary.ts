// The only place where an exception becomes a gRPC status.
import { ServerError, Status, type CallContext, type ServerMiddleware, type ServerMiddlewareCall } from "nice-grpc";
import { BadRequest, ErrorInfo, RichServerError } from "nice-grpc-error-details";
import { PitwallError, statusOf } from "./errors.ts";
import type { Log } from "./log.ts";

/** First middleware of every server: maps {@link PitwallError} to its status with `google.rpc` details, hides everything else as INTERNAL. */
export function errorBoundary(log: Log): ServerMiddleware {
  return async function* boundary<Req, Res>(call: ServerMiddlewareCall<Req, Res>, context: CallContext) {
    try {
      return yield* call.next(call.request, context);
    } catch (error) {
      if (error instanceof PitwallError) throw toServerError(error);
      if (error instanceof ServerError || context.signal.aborted) throw error;
      log.error("rpc failed", { path: call.method.path, error });
      throw new ServerError(Status.INTERNAL, "internal error");
    }
  };
}

/** A refusal as it goes on the wire. */
export function toServerError(error: PitwallError): RichServerError {
  const details = [ErrorInfo.create({ reason: error.reason, domain: "pitwall.dev" })];
  const extra =
    error.field === undefined
      ? []
      : [BadRequest.create({ fieldViolations: [{ field: error.field, description: error.message }] })];
  return new RichServerError(statusOf[error.fault], error.message, [...details, ...extra]);
}
