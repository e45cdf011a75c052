// The only place where an exception becomes a gRPC status.
import { ServerError, Status, type CallContext, type ServerMiddleware, type ServerMiddlewareCall } from "nice-grpc";
import { Any, BadRequest, ErrorInfo, QuotaFailure, RetryInfo, RichServerError } from "nice-grpc-error-details";
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
  return new RichServerError(statusOf[error.fault], error.message, detailsOf(error));
}

/** `google.rpc.Status` of a refusal, for the trailer `grpc-status-details-bin`. */
export function statusDetails(error: PitwallError): Uint8Array {
  const details = detailsOf(error).map((detail) =>
    Any.fromPartial({ typeUrl: `type.googleapis.com/${detail.$type}`, value: encode(detail) }),
  );
  return RpcStatus.encode(RpcStatus.fromPartial({ code: statusOf[error.fault], message: error.message, details })).finish();
}

type Detail = ErrorInfo | BadRequest | RetryInfo | QuotaFailure;

function detailsOf({ reason, field, message: description, metadata, retryAfterMs, quota }: PitwallError): Detail[] {
  return [
    ErrorInfo.create({ reason, domain: "pitwall.dev", metadata: { ...metadata } }),
    ...(field === undefined ? [] : [BadRequest.create({ fieldViolations: [{ field, description }] })]),
    ...(retryAfterMs === undefined
      ? []
      : [RetryInfo.create({ retryDelay: { seconds: Math.floor(retryAfterMs / 1000), nanos: (retryAfterMs % 1000) * 1e6 } })]),
    ...(quota.length === 0 ? [] : [QuotaFailure.create({ violations: [...quota] })]),
  ];
}

function encode(detail: Detail): Uint8Array {
  switch (detail.$type) {
    case "google.rpc.ErrorInfo":
      return ErrorInfo.encode(detail).finish();
    case "google.rpc.BadRequest":
      return BadRequest.encode(detail).finish();
    case "google.rpc.RetryInfo":
      return RetryInfo.encode(detail).finish();
    case "google.rpc.QuotaFailure":
      return QuotaFailure.encode(detail).finish();
  }
}
