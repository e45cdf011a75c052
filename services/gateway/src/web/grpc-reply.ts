// A gRPC status as headers, and as the last frame of a gRPC-Web body (PROTOCOL-HTTP2.md and PROTOCOL-WEB.md of grpc/grpc).
import type { IncomingHttpHeaders } from "node:http2";
import { PitwallError, statusDetails, statusOf } from "@pitwall/runtime";

export type Trailers = Readonly<Record<string, string>>;

/** grpc-status and its companions for an error; what is not a {@link PitwallError} becomes INTERNAL without a word. */
export function statusTrailers(error: unknown): Trailers {
  const known = error instanceof PitwallError ? error : new PitwallError("internal", "internal error");
  return {
    "grpc-status": String(statusOf[known.fault]),
    "grpc-message": percentEncode(known.message),
    "grpc-status-details-bin": Buffer.from(statusDetails(known)).toString("base64"),
  };
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
export function trailersFrame(trailers: IncomingHttpHeaders | Trailers): Buffer {
  const lines = Object.entries(trailers).flatMap(([name, value]) =>
    name.startsWith(":") || value === undefined ? [] : [`${name}: ${String(value)}\r\n`],
  );
  const body = Buffer.from(lines.join(""), "latin1");
  const head = Buffer.alloc(5);
  head[0] = trailersFlag;
  head.writeUInt32BE(body.length, 1);
  return Buffer.concat([head, body]);
}
