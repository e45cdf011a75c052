// The only place where an exception becomes a gRPC status.
import { ServerError, Status, type CallContext, type ServerMiddleware, type ServerMiddlewareCall } from "nice-grpc";
import { Any, BadRequest, ErrorInfo, RichServerError } from "nice-grpc-error-details";
import { Status as RpcStatus } from "nice-grpc-error-details/lib/proto/google/rpc/status.js";
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
  const { info, request } = detailsOf(error);
  return new RichServerError(statusOf[error.fault], error.message, request ? [info, request] : [info]);
}

/** `google.rpc.Status` of a refusal, for the trailer `grpc-status-details-bin`. */
export function statusDetails(error: PitwallError): Uint8Array {
  const { info, request } = detailsOf(error);
  const any = ($type: string, value: Uint8Array): Any => Any.fromPartial({ typeUrl: `type.googleapis.com/${$type}`, value });
  const details = [
    any(info.$type, ErrorInfo.encode(info).finish()),
    ...(request ? [any(request.$type, BadRequest.encode(request).finish())] : []),
  ];
  return RpcStatus.encode(RpcStatus.fromPartial({ code: statusOf[error.fault], message: error.message, details })).finish();
}

function detailsOf({ reason, field, message: description }: PitwallError): { info: ErrorInfo; request: BadRequest | undefined } {
  const info = ErrorInfo.create({ reason, domain: "pitwall.dev" });
  return { info, request: field === undefined ? undefined : BadRequest.create({ fieldViolations: [{ field, description }] }) };
}
