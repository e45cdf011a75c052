// A gRPC status as headers, and as the last frame of a gRPC-Web body (PROTOCOL-HTTP2.md and PROTOCOL-WEB.md of grpc/grpc).
import { constants } from "node:http2";
import { PitwallError, statusDetails, statusOf } from "@pitwall/runtime";
import { Status } from "nice-grpc";
import { headerLines, type CallHeaders } from "./headers.ts";

export type Trailers = CallHeaders;

/** By this, logs find what a client was told of. */
const callIdKey = "pitwall-call-id";

/** grpc-status and its companions for an error; what is not a {@link PitwallError} becomes INTERNAL and says no more than the call's id. */
export function statusTrailers(error: unknown, callId: string): Trailers {
  const known =
    error instanceof PitwallError ? error : new PitwallError("internal", `internal error; the gateway's log has more of call ${callId}`);
  return {
    ...plainStatus(statusOf[known.fault], known.message),
    "grpc-status-details-bin": Buffer.from(statusDetails(known)).toString("base64").replace(/=+$/, ""), // senders should not pad
    [callIdKey]: callId,
  };
}

/** The same that upstreams say. */
export const deadlineTrailers: Trailers = plainStatus(Status.DEADLINE_EXCEEDED, "the call was not done by its deadline");

function plainStatus(status: Status, message: string): Trailers {
  return { "grpc-status": String(status), "grpc-message": percentEncode(message) };
}

/** http-grpc-status-mapping.md of grpc/grpc. */
const statusOfHttp: Readonly<Record<number, Status>> = {
  400: Status.INTERNAL,
  401: Status.UNAUTHENTICATED,
  403: Status.PERMISSION_DENIED,
  404: Status.UNIMPLEMENTED,
  429: Status.UNAVAILABLE,
  502: Status.UNAVAILABLE,
  503: Status.UNAVAILABLE,
  504: Status.UNAVAILABLE,
};

/** What an upstream means that answers with plain HTTP. */
export function httpTrailers(httpStatus: number): Trailers {
  return plainStatus(statusOfHttp[httpStatus] ?? Status.UNKNOWN, `the upstream answered with HTTP status ${httpStatus} and no gRPC status`);
}

/**
 * "Errors" of PROTOCOL-HTTP2.md, but for CANCEL. That is what a server says that is being stopped, and what Node says of each call of a
 * connection that is lost; a client's own cancelling never comes back this way. CANCELLED would tell the client that it had given up itself.
 */
const statusOfReset: Readonly<Record<number, Status>> = {
  [constants.NGHTTP2_REFUSED_STREAM]: Status.UNAVAILABLE,
  [constants.NGHTTP2_CANCEL]: Status.UNAVAILABLE,
  [constants.NGHTTP2_ENHANCE_YOUR_CALM]: Status.RESOURCE_EXHAUSTED,
  [constants.NGHTTP2_INADEQUATE_SECURITY]: Status.PERMISSION_DENIED,
};

/** What an upstream means that resets a call with this code. */
export function resetTrailers(code: number): Trailers {
  if (code === constants.NGHTTP2_NO_ERROR) return plainStatus(Status.INTERNAL, "the upstream ended the call without a status");
  return plainStatus(statusOfReset[code] ?? Status.INTERNAL, `the upstream reset the call with HTTP/2 error code ${code}`);
}

/** Bytes other than printable ASCII, and `%`, as %XX. */
function percentEncode(text: string): string {
  return [...Buffer.from(text)]
    .map((byte) =>
      byte >= 0x20 && byte <= 0x7e && byte !== 0x25 ? String.fromCharCode(byte) : `%${byte.toString(16).toUpperCase().padStart(2, "0")}`,
    )
    .join("");
}

const trailersFlag = 0x80;

/** The frame that carries trailers in a gRPC-Web body. */
export function trailersFrame(trailers: Trailers): Buffer {
  const body = headerLines(trailers);
  const head = Buffer.alloc(5);
  head[0] = trailersFlag;
  head.writeUInt32BE(body.length, 1);
  return Buffer.concat([head, body]);
}
