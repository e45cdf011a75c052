// HTTP/2 connections without calls, with real ones and short limits.
import { once } from "node:events";
import { connect, createServer, type ClientHttp2Session, type ServerHttp2Stream } from "node:http2";
import type { AddressInfo } from "node:net";
import { expect, it, onTestFinished } from "vitest";
import { closeWhenIdle, type IdleLimits } from "../src/web/idle.ts";

/** A connection to a server with these limits, which answers each call after 150 ms. */
async function connectionWith(
  limits: IdleLimits,
): Promise<{ session: ClientHttp2Session; call: () => Promise<void>; ended: Promise<void> }> {
  const server = createServer();
  server.on("session", (session) => closeWhenIdle(session, limits));
  server.on("stream", (stream: ServerHttp2Stream) => {
    setTimeout(() => {
      stream.respond({ ":status": 200 });
      stream.end();
    }, 150);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const session = connect(`http://127.0.0.1:${(server.address() as AddressInfo).port}`); // it listens on TCP
  onTestFinished(() => {
    session.destroy();
    server.close();
  });
  const ended = new Promise<void>((resolve) => session.once("goaway", () => resolve()));
  const call = async (): Promise<void> => {
    const stream = session.request({ ":path": "/" });
    stream.resume();
    await once(stream, "close");
  };
  return { session, call, ended };
}

it("one that never calls ends", async () => {
  const { ended } = await connectionWith({ firstMs: 50, nextMs: 60_000 });
  await ended;
});

it("one that has called ends once it calls no more", async () => {
  const { call, ended } = await connectionWith({ firstMs: 60_000, nextMs: 50 });
  await call();
  await ended;
});

it("one that calls goes on, however long its call takes", async () => {
  const { session, call } = await connectionWith({ firstMs: 100, nextMs: 100 });
  for (let at = 0; at < 4; at++) {
    await call();
    expect(session.closed).toBe(false);
  }
});
