// The subprotocol of calls over WebSocket, message by message: a byte that says what it is, and what it carries. See docs/gateway.md.
import { headerLines, type CallHeaders } from "./headers.ts";

export const socketProtocol = "pitwall-grpc.v1";

const kinds = { data: 0, headers: 1, halfClose: 2, credit: 3, trailers: 4 } as const;

/** Of a message, without its first byte. */
export const maxDataBytes = 64 * 1024;
/** What each side may send before the other grants more. */
export const firstCreditBytes = 256 * 1024;
/** What a client may have granted and not been sent. */
export const maxCreditBytes = 1024 * 1024;

/** What a message of data uses of the credit: many small ones take more memory than their bytes. */
export function costOf(bytes: number): number {
  return Math.max(bytes, minCostBytes);
}

export const minCostBytes = 256;

/** What a client says once it has begun its call. */
export type ClientMessage =
  | { readonly kind: "data"; readonly bytes: Buffer }
  | { readonly kind: "halfClose" }
  | { readonly kind: "credit"; readonly count: number };

/** A message that is none of the protocol's: the connection ends with this close code, and these words. */
export class SocketFault extends Error {
  readonly code: 1002 | 1003 | 1008;

  constructor(code: 1002 | 1003 | 1008, words: string) {
    super(words);
    this.code = code;
  }
}

const header = /^([!#$%&'*+.^_`|~0-9a-z-]+): ?([\x20-\x7e]*)$/;

/** The message that begins a call. Throws {@link SocketFault}. */
export function parseHeaders(message: Buffer, isBinary: boolean, maxBytes: number): CallHeaders {
  if (kindOf(message, isBinary) !== kinds.headers) throw new SocketFault(1002, "the first message is the call's headers");
  if (message.length - 1 > maxBytes) throw new SocketFault(1008, `headers may take ${maxBytes} bytes`);
  const lines = message.toString("latin1", 1).split("\r\n");
  if (lines.pop() !== "") throw new SocketFault(1002, "each header ends with CR LF");
  const values = new Map<string, string[]>();
  for (const line of lines) {
    const [, name, value] = header.exec(line) ?? [];
    if (name === undefined || value === undefined) throw new SocketFault(1002, "a header is `name: value`, the name in lower case");
    values.set(name, [...(values.get(name) ?? []), value]);
  }
  return Object.fromEntries([...values].map(([name, all]) => [name, all.length > 1 ? all : all[0]]));
}

/** Any other message of a client. Throws {@link SocketFault}. */
export function parseMessage(message: Buffer, isBinary: boolean): ClientMessage {
  switch (kindOf(message, isBinary)) {
    case kinds.data:
      if (message.length === 1) throw new SocketFault(1002, "a message of data carries some");
      return { kind: "data", bytes: message.subarray(1) };
    case kinds.halfClose:
      if (message.length !== 1) throw new SocketFault(1002, "a half-close carries nothing");
      return { kind: "halfClose" };
    case kinds.credit:
      if (message.length !== 5) throw new SocketFault(1002, "a credit is four bytes");
      return { kind: "credit", count: message.readUInt32BE(1) };
    case kinds.headers:
      throw new SocketFault(1002, "a call has one message of headers");
    default:
      throw new SocketFault(1002, "there is no such kind of message");
  }
}

function kindOf(message: Buffer, isBinary: boolean): number | undefined {
  if (!isBinary) throw new SocketFault(1003, "messages are binary");
  return message[0];
}

export function dataMessage(bytes: Buffer): Buffer {
  return Buffer.concat([Buffer.from([kinds.data]), bytes]);
}

export function creditMessage(count: number): Buffer {
  const message = Buffer.alloc(5, kinds.credit);
  message.writeUInt32BE(count, 1);
  return message;
}

export function headersMessage(headers: CallHeaders): Buffer {
  return Buffer.concat([Buffer.from([kinds.headers]), headerLines(headers)]);
}

export function trailersMessage(trailers: CallHeaders): Buffer {
  return Buffer.concat([Buffer.from([kinds.trailers]), headerLines(trailers)]);
}
