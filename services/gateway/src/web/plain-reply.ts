// An answer of the web port's own, whole.
import type { OutgoingHttpHeaders } from "node:http2";

export interface PlainReply {
  readonly status: number;
  readonly headers: OutgoingHttpHeaders;
  readonly body: string | Buffer;
}
