// A gateway that is told to stop: what is under way ends well, and nothing new begins.
import { once } from "node:events";
import type { ServerHttp2Stream } from "node:http2";
import { connect } from "node:net";
import { expect, it, onTestFinished } from "vitest";
import { startLoneGateway, type LoneGateway } from "./support/children.ts";
import { answered, frame } from "./support/gateway-before.ts";
import { call, call2, openUpstream, session2, trailersOf, webHeaders } from "./support/upstream.ts";

const stopping = /^grpc-status: 14\r\ngrpc-message: the gateway is stopping; call again\r\n/;

/** A gateway, and the calls that have reached its upstream, in order. */
async function gatewayWithCalls(): Promise<{ gateway: LoneGateway; arrival: () => Promise<ServerHttp2Stream> }> {
  const arrived: ServerHttp2Stream[] = [];
  let wake: () => void = () => undefined;
  const upstream = await openUpstream((stream) => {
    arrived.push(stream.resume());
    wake();
  });
  onTestFinished(() => upstream[Symbol.asyncDispose]());
  const gateway = await startLoneGateway(upstream.port);
  onTestFinished(() => gateway[Symbol.asyncDispose]());
  const arrival = async (): Promise<ServerHttp2Stream> => {
    for (;;) {
      const next = arrived.shift();
      if (next) return next;
      await new Promise<void>((resolve) => (wake = resolve));
    }
  };
  return { gateway, arrival };
}

function answerNow(stream: ServerHttp2Stream): void {
  stream.respond(answered, { waitForTrailers: true });
  stream.once("wantTrailers", () => stream.sendTrailers({ "grpc-status": "0" }));
  stream.end(frame);
}

it("waits for answers that are being made, and ends streams as UNAVAILABLE", async () => {
  const { gateway, arrival } = await gatewayWithCalls();
  await using session = await session2(gateway.port);
  const [stream1, stream2] = [call(gateway.port, frame), call2(session, frame)];
  for (const each of [await arrival(), await arrival()]) {
    each.respond(answered);
    each.write(frame);
  }
  await new Promise((resolve) => setTimeout(resolve, 1_200)); // an answer that takes more than a second is a stream
  const [unary1, unary2] = [call(gateway.port, frame), call2(session, frame)];
  const waiting = [await arrival(), await arrival()];
  const goaway = once(session, "goaway");
  const stopped = gateway.stop();
  await goaway;
  expect(trailersOf((await stream1).body)).toMatch(stopping);
  expect(trailersOf((await stream2).body)).toMatch(stopping);
  for (const each of waiting) answerNow(each);
  expect(trailersOf((await unary1).body)).toBe("grpc-status: 0\r\n");
  expect(trailersOf((await unary2).body)).toBe("grpc-status: 0\r\n");
  expect(await stopped).toBe(0);
});

it("takes no connection more", async () => {
  const { gateway, arrival } = await gatewayWithCalls();
  await using session = await session2(gateway.port);
  const unary = call2(session, frame);
  const waiting = await arrival();
  const goaway = once(session, "goaway");
  const stopped = gateway.stop();
  await goaway;
  const late = connect(gateway.port, "127.0.0.1");
  await expect(once(late, "connect")).rejects.toThrow("ECONNREFUSED");
  answerNow(waiting);
  expect(trailersOf((await unary).body)).toBe("grpc-status: 0\r\n");
  expect(await stopped).toBe(0);
});

it("does not wait for ever for an answer", { timeout: 30_000 }, async () => {
  const { gateway, arrival } = await gatewayWithCalls();
  const unary = call(gateway.port, frame);
  await arrival();
  const begun = performance.now();
  const stopped = gateway.stop();
  expect(trailersOf((await unary).body)).toMatch(stopping);
  expect(performance.now() - begun).toBeGreaterThan(9_000);
  expect(await stopped).toBe(0);
});

it("closes a connection of HTTP/1.1 whose headers do not come", { timeout: 30_000 }, async () => {
  const { gateway } = await gatewayWithCalls();
  const slow = connect(gateway.port, "127.0.0.1");
  onTestFinished(() => void slow.destroy());
  slow.write(`POST /a.B/C HTTP/1.1\r\nhost: a\r\ncontent-type: ${webHeaders["content-type"]}\r\n`);
  slow.resume();
  const begun = performance.now();
  await once(slow, "close");
  expect(performance.now() - begun).toBeGreaterThan(9_000);
});
