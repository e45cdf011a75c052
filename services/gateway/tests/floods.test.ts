// Floods of HTTP/2, each beside a good client: its connection is ended, and where it came from is refused after a few.
import { silentLog } from "@pitwall/runtime";
import { describe, expect, it, onTestFinished } from "vitest";
import { GatewayMetrics } from "../src/metrics.ts";
import { defaultLimits } from "../src/web/limits.ts";
import { openWebServer } from "../src/web/server.ts";
import { answer, frame, gatewayBefore } from "./support/gateway-before.ts";
import { isServed, raw, refused, start, type Gateway } from "./support/hostile-clients.ts";
import { socketTo } from "./support/ingress-clients.ts";
import { callBlock, endHeaders, endStream, frameKind, frameOf, RawHttp2 } from "./support/raw-http2.ts";
import { call2, session2, trailersOf } from "./support/upstream.ts";

const ok = "grpc-status: 0\r\n";
const enhanceYourCalm = 11;
const settingsFrame = frameOf(frameKind.settings, 0, 0, Buffer.from([0, 4, 0, 1, 0, 0]));
const pingFrame = frameOf(frameKind.ping, 0, 0, Buffer.alloc(8));
const code = (value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
};
const stream = (at: number): number => 2 * at + 1;
const whole = (at: number, more = {}): Buffer => frameOf(frameKind.headers, endHeaders | endStream, stream(at), callBlock(more));
const begun = (at: number): Buffer => frameOf(frameKind.headers, endHeaders, stream(at), callBlock({ "x-hang": "1" }));

/** Sends what `next` says, until its connection has ended; how much that was. A good client is served all the while. */
async function flood(gateway: Gateway, client: RawHttp2, most: number, next: (at: number) => Buffer): Promise<number> {
  await using good = await session2(gateway.port);
  const goodCall = async (): Promise<void> => expect(trailersOf((await call2(good, frame)).body)).toBe(ok);
  let at = 0;
  for (; at < most && !client.socket.destroyed; at++) {
    client.socket.write(next(at));
    if (at % 100 !== 99) continue;
    await client.flushed();
    await goodCall(); // by when most of it has been read
  }
  await goodCall();
  await isServed(gateway.port);
  return at;
}

describe("a flood of", () => {
  it.each<[string, string, Buffer]>([
    ["pings", "pings", pingFrame],
    ["settings", "settings", settingsFrame],
  ])("%s ends its connection, and not a good client's", async (_, reason, sent) => {
    const gateway = await start();
    const client = raw(gateway.port);
    await flood(gateway, client, 3_000, () => sent);
    await client.closed;
    expect(client.goaway).toBe(enhanceYourCalm);
    expect(await refused(gateway, reason)).toBe(1);
  });

  it("50,000 rapid resets ends its connections, and costs the upstream few calls", { timeout: 60_000 }, async () => {
    let arrived = 0;
    const gateway = await gatewayBefore((call, headers) => {
      if (headers["x-bad"] === undefined) answer(call, frame);
      else arrived++;
    });
    await using good = await session2(gateway.port);
    let sent = 0;
    let connections = 0;
    while (sent < 50_000) {
      using client = new RawHttp2(gateway.port);
      connections++;
      for (let at = 0; at < 2_000 && !client.socket.destroyed; at++, sent++) {
        client.socket.write(whole(at, { "x-bad": "1" }));
        client.say(frameKind.reset, 0, stream(at), code(8));
        if (at % 200 === 0) await client.flushed();
      }
      await client.closed;
      if (connections % 5 === 0) expect(trailersOf((await call2(good, frame)).body)).toBe(ok);
    }
    await isServed(gateway.port);
    expect(arrived).toBeLessThan(connections * 260);
    expect(gateway.upstream.sessions.size).toBe(1);
  });

  // CVE-2025-8671: what a server must reset is no reset of the client's, and counts all the same.
  it.each<[string, (at: number) => Buffer]>([
    ["whose window is opened by nothing", (at) => Buffer.concat([whole(at), frameOf(frameKind.windowUpdate, 0, stream(at), code(0))])],
    [
      "whose window is opened too far",
      (at) => Buffer.concat([whole(at), frameOf(frameKind.windowUpdate, 0, stream(at), code(0x7f_ff_ff_ff))]),
    ],
    ["that go on after their end", (at) => Buffer.concat([whole(at), frameOf(frameKind.data, 0, stream(at), Buffer.alloc(1))])],
    ["that begin twice", (at) => Buffer.concat([whole(at), whole(at)])],
    [
      "that are longer than they say",
      (at) =>
        Buffer.concat([
          frameOf(frameKind.headers, endHeaders, stream(at), callBlock({ "content-length": "1" })),
          frameOf(frameKind.data, endStream, stream(at), Buffer.alloc(5)),
        ]),
    ],
    ["with a header that none is", (at) => whole(at, { "X-Upper": "x" })],
    ["beyond those that the settings allow", begun],
  ])("calls %s, which the gateway must reset itself, ends its connection", { timeout: 60_000 }, async (_, next) => {
    let arrived = 0;
    const gateway = await gatewayBefore((call, headers) => {
      if (headers["x-hang"] !== undefined) return void call.resume();
      arrived++;
      answer(call, frame);
    });
    const client = raw(gateway.port);
    await flood(gateway, client, 20_000, next);
    await client.closed;
    expect(client.goaway).toBeGreaterThan(0);
    expect(await refused(gateway, "http2")).toBe(1);
    expect(arrived).toBeLessThan(1_000);
  });

  it.each<[string, (at: number) => Buffer]>([
    ["priorities", (at) => frameOf(2, 0, stream(at), Buffer.concat([code(0), Buffer.alloc(1)]))],
    ["frames of no known kind", () => frameOf(0x42, 0, 0, Buffer.alloc(1))],
    ["empty data", (at) => (at === 0 ? begun(0) : frameOf(frameKind.data, 0, 1))],
    ["answers to pings that were none", () => frameOf(frameKind.ping, 1, 0, Buffer.alloc(8))],
    ["answers to settings that were none", () => frameOf(frameKind.settings, 1, 0)],
    ["resets of calls that there never were", (at) => frameOf(frameKind.reset, 0, stream(at), code(8))],
    ["windows of nothing", () => frameOf(frameKind.windowUpdate, 0, 0, code(0))],
    ["windows beyond all bounds", () => frameOf(frameKind.windowUpdate, 0, 0, code(0x7f_ff_ff_ff))],
  ])("%s ends its connection", { timeout: 60_000 }, async (_, next) => {
    const gateway = await start();
    const client = raw(gateway.port);
    await flood(gateway, client, 50_000, next);
    await client.closed;
    expect(client.goaway).toBeGreaterThan(0);
    expect(await refused(gateway, "http2")).toBe(1);
  });

  it.each<[string, (at: number) => Buffer]>([
    ["data for", () => frameOf(frameKind.data, 0, 1, Buffer.alloc(1))],
    ["windows of", () => frameOf(frameKind.windowUpdate, 0, 1, code(1))],
  ])("%s a call that is over costs a good client nothing", { timeout: 60_000 }, async (_, next) => {
    const gateway = await start();
    const client = raw(gateway.port);
    client.socket.write(Buffer.concat([whole(0), frameOf(frameKind.reset, 0, 1, code(8))]));
    await flood(gateway, client, 20_000, next);
  });
});

describe("a WebSocket that pings without end", () => {
  const calls = Buffer.from("\u0001content-type: application/grpc\r\nx-hang: 1\r\n");
  const masked = (opcode: number, payload: Buffer): Buffer =>
    Buffer.concat([Buffer.from([0x80 | opcode, 0x80 | payload.length, 0, 0, 0, 0]), payload]);
  const lines = ["GET /a.B/C HTTP/1.1", "host: a", "connection: Upgrade", "upgrade: websocket", "sec-websocket-version: 13"];
  const key = ["sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==", "sec-websocket-protocol: pitwall-grpc.v1"];
  const asked = `${[...lines, ...key].join("\r\n")}\r\n\r\n`;

  it.each([
    ["before its call has begun", [], false],
    ["before its call has begun, reading all answers", [], true],
    ["as a call", [calls], false],
    ["as a call, reading all answers", [calls], true],
  ])("%s, is ended, and not a good client", { timeout: 60_000 }, async (_, first, isRead) => {
    const gateway = await start();
    await using good = await session2(gateway.port);
    const socket = await socketTo(gateway.port);
    let answered = 0;
    if (isRead) socket.on("data", ({ length }: Buffer) => (answered += length));
    socket.write(asked);
    for (const bytes of first) socket.write(masked(2, bytes));
    const pings = Buffer.concat(Array.from({ length: 5 }, () => masked(9, Buffer.alloc(100))));
    for (let sent = 0; sent < 20_000 && !socket.destroyed; sent += 5) {
      socket.write(pings);
      expect(trailersOf((await call2(good, frame)).body)).toBe(ok);
      const isGone = (await gateway.metrics.registry.metrics()).includes("pitwall_gateway_connections 1\n"); // but the good one
      if (isGone && sent > 0) break;
    }
    await expect.poll(() => gateway.metrics.registry.metrics(), { timeout: 10_000 }).toContain("pitwall_gateway_connections 1\n");
    expect(await refused(gateway, "pings")).toBe(1);
    if (isRead) expect(answered).toBeGreaterThan(50 * 100);
    await isServed(gateway.port);
  });
});

describe("calls in crumbs", () => {
  it("end their connection once there are several", async () => {
    const gateway = await start();
    const client = raw(gateway.port);
    const begin = Buffer.concat([...Array.from({ length: 6 }, (_, at) => begun(at))]);
    client.socket.write(begin);
    await expect.poll(() => gateway.metrics.registry.metrics()).toContain("pitwall_gateway_calls 6");
    const crumb = (at: number): Buffer =>
      frameOf(frameKind.data, 0, stream(at % 6), at < 6 ? Buffer.from([0, 0, 1, 0, 0]) : Buffer.alloc(1));
    await flood(gateway, client, 20_000, crumb);
    await client.closed;
    expect(client.goaway).toBe(enhanceYourCalm);
    expect(await refused(gateway, "small_frames")).toBeGreaterThanOrEqual(4);
  });

  it("are refused while their upstream is still being opened, too", async () => {
    const metrics = new GatewayMetrics();
    const open = (): Promise<never> => new Promise(() => undefined);
    const web = await openWebServer(
      { host: "127.0.0.1", port: 0 },
      { open, corsOrigins: [], limits: defaultLimits, metrics, log: silentLog },
    );
    onTestFinished(() => web[Symbol.asyncDispose]());
    const client = raw(web.port);
    client.socket.write(begun(0));
    await expect.poll(() => metrics.registry.metrics()).toContain("pitwall_gateway_calls 1");
    client.say(frameKind.data, 0, 1, Buffer.from([0, 0, 1, 0, 0]));
    for (let at = 0; at < 2_000; at++) client.say(frameKind.data, 0, 1, Buffer.alloc(1));
    await expect.poll(() => refused({ metrics }, "small_frames"), { timeout: 10_000 }).toBe(1);
    client.socket.destroy();
  });
});

describe("a source from which floods come", () => {
  const elsewhere = "127.0.0.2";

  it("is refused after the third, and no other is", async () => {
    const gateway = await start({ penaltyExempt: { has: () => false } });
    await using before = await session2(gateway.port);
    for (let connection = 0; connection < 3; connection++) {
      const client = raw(gateway.port, elsewhere);
      await flood(gateway, client, 3_000, () => pingFrame);
      await client.closed;
      expect(client.goaway).toBe(enhanceYourCalm);
    }
    const next = raw(gateway.port, elsewhere);
    await next.closed;
    expect(next.seen.size).toBe(0); // not a frame
    expect(await refused(gateway, "penalty")).toBe(1);
    await isServed(gateway.port);
    expect(trailersOf((await call2(before, frame)).body)).toBe(ok);
  });

  it("is let in nonetheless when it is exempt", async () => {
    const gateway = await start({ penaltyExempt: { has: (address) => address === elsewhere } });
    for (let connection = 0; connection < 4; connection++) {
      const client = raw(gateway.port, elsewhere);
      await flood(gateway, client, 3_000, () => pingFrame);
      await client.closed;
      expect(client.goaway).toBe(enhanceYourCalm);
    }
    expect(await refused(gateway, "penalty")).toBe(0);
  });

  it("is not refused for connections that merely break", async () => {
    const gateway = await start({ penaltyExempt: { has: () => false } });
    for (let connection = 0; connection < 6; connection++) {
      const client = raw(gateway.port, elsewhere);
      client.socket.write(begun(0));
      await expect.poll(() => gateway.metrics.registry.metrics()).toContain("pitwall_gateway_calls 1");
      client.socket.resetAndDestroy();
      await expect.poll(() => gateway.metrics.registry.metrics()).toContain("pitwall_gateway_calls 0");
    }
    const last = raw(gateway.port, elsewhere);
    await expect.poll(() => last.seen.get(frameKind.settings) ?? 0).toBeGreaterThan(0);
    expect(await refused(gateway, "penalty")).toBe(0);
  });
});
