// HTTP/2 connections that carry no call: each costs as much memory as a busy one.
import type { ServerHttp2Session, ServerHttp2Stream } from "node:http2";

/** From a connection's begin to its first call, and from the end of its last call to the next, in milliseconds. */
export interface IdleLimits {
  readonly firstMs: number;
  readonly nextMs: number;
}

/** To the first call. */
export const firstCallMs = 20_000;
/** What a client may take to hear that its connection ends. */
const goodbyeMs = 1_000;

/** Ends the connection with GOAWAY once it is without a call for too long. */
export function closeWhenIdle(session: ServerHttp2Session, { firstMs, nextMs }: IdleLimits): void {
  let calls = 0;
  let timer: NodeJS.Timeout;
  const waitFor = (ms: number): void => {
    timer = setTimeout(() => {
      session.close();
      timer = setTimeout(() => session.destroy(), goodbyeMs).unref();
    }, ms).unref();
  };
  waitFor(firstMs);
  session.on("stream", (stream: ServerHttp2Stream) => {
    calls++;
    clearTimeout(timer);
    stream.once("close", () => --calls === 0 && !session.closed && waitFor(nextMs));
  });
  session.once("close", () => clearTimeout(timer));
}
