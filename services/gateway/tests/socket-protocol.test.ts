// The subprotocol of calls over WebSocket, byte by byte: who is let in, what is no message, and how connections end.
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { connect } from "node:net";
import { openVerifier } from "@pitwall/auth";
import { silentLog } from "@pitwall/runtime";
import { exportJWK, generateKeyPair, SignJWT } from "jose";
import { describe, expect, it, onTestFinished } from "vitest";
import { openDoor } from "../src/web/door.ts";
import { GatewayMetrics } from "../src/metrics.ts";
import { defaultLimits } from "../src/web/limits.ts";
import { openLoneUpstream } from "../src/web/lone-upstream.ts";
import { openWebServer } from "../src/web/server.ts";
import type { OpenUpstream } from "../src/web/upstreams.ts";
import { openBytesUpstream, type BytesUpstream } from "./support/grpc-upstream.ts";
import { framed, kinds, openSocket, type SocketCaller } from "./support/socket-caller.ts";

const origin = "https://console.example.com";

/** With `guard` in the way of each call. */
async function start(
  guard: (authorization: string | undefined) => Promise<unknown> = async () => undefined,
): Promise<{ port: number; upstream: BytesUpstream; web: AsyncDisposable }> {
  const upstream = await openBytesUpstream();
  onTestFinished(() => upstream[Symbol.asyncDispose]());
  const lone = openLoneUpstream({ host: "127.0.0.1", port: upstream.port }, silentLog);
  onTestFinished(() => lone[Symbol.dispose]());
  const open: OpenUpstream = async (path, headers) => {
    await guard(headers["authorization"]?.toString());
    return lone.open(path, headers);
  };
  const web = await openWebServer(
    { host: "127.0.0.1", port: 0 },
    { open, corsOrigins: [origin], limits: defaultLimits, metrics: new GatewayMetrics(), log: silentLog },
  );
  onTestFinished(() => web[Symbol.asyncDispose]());
  return { port: web.port, upstream, web };
}

async function opened(port: number, options: Parameters<typeof openSocket>[1] = {}): Promise<SocketCaller> {
  const caller = await openSocket(port, options);
  onTestFinished(() => caller[Symbol.dispose]());
  return caller;
}

const statusOf = (trailers: readonly string[]): string => trailers.find((line) => line.startsWith("grpc-status: ")) ?? "none";

describe("a call", () => {
  it("is headers, data, half-close; and back headers, data, trailers, and a close with 1000", async () => {
    const { port } = await start();
    const caller = await opened(port);
    caller.begin({ "content-type": "application/grpc-web+proto", "want-header": "1" }).message("hello").halfClose();
    const { headers, data, trailers } = await caller.all();
    expect(headers).toContain("content-type: application/grpc+proto");
    expect(data).toEqual(framed("hello"));
    expect(trailers).toContain("grpc-status: 0");
    expect(trailers).toContain("x-end: 3");
    expect(await caller.closed).toEqual({ code: 1000, reason: "" });
    expect(caller.socket.protocol).toBe("pitwall-grpc.v1");
  });

  it("takes a message in pieces of any size", async () => {
    const { port } = await start();
    const caller = (await opened(port)).begin();
    for (const byte of framed("in pieces")) caller.say(kinds.data, Buffer.from([byte]));
    expect((await caller.halfClose().all()).data).toEqual(framed("in pieces"));
  });

  it("gets no more than it has granted, and its status once it grants the rest", async () => {
    const { port } = await start();
    const caller = (await opened(port, { path: "/test.Bytes/Many" })).begin().message("8 65536").halfClose();
    const granted = 256 * 1024;
    let [read, cost] = [0, 0];
    // It sends while it may send a message of the least cost.
    while (granted - cost >= 256) {
      const next = await caller.next();
      if (!next) throw new Error("it was closed");
      if (next.kind !== kinds.data) continue;
      read += next.bytes.length;
      cost += Math.max(256, next.bytes.length);
    }
    expect(read).toBeGreaterThan(0.9 * granted);
    const first = await Promise.race([caller.next(), new Promise((resolve) => setTimeout(() => resolve("nothing"), 300))]);
    expect(first).toBe("nothing");
    expect(cost).toBeLessThanOrEqual(granted);
    caller.grant(512 * 1024);
    expect(statusOf((await caller.all()).trailers)).toBe("grpc-status: 0");
  });

  it("that its client breaks off is cancelled at the upstream, with or without a goodbye", async () => {
    const { port, upstream } = await start();
    for (const leave of [(caller: SocketCaller) => caller.socket.close(), (caller: SocketCaller) => caller.socket.terminate()]) {
      upstream.seen.length = 0;
      const caller = (await opened(port, { path: "/test.Bytes/Hang" })).begin();
      await upstream.saw("begun");
      leave(caller);
      await upstream.saw("cancelled");
    }
  });
});

describe("a call whose messages are none of the protocol's is cut off, with a code and words:", () => {
  const headers = Buffer.from([kinds.headers]);
  it.each<[string, (string | Buffer)[], number, string]>([
    ["text", ["hello"], 1003, "messages are binary"],
    ["text after the headers", [headers, "hello"], 1003, "messages are binary"],
    ["an empty message", [Buffer.alloc(0)], 1002, "the first message is the call's headers"],
    ["data before the headers", [Buffer.from([kinds.data, 1])], 1002, "the first message is the call's headers"],
    ["headers twice", [headers, headers], 1002, "a call has one message of headers"],
    ["a header without its end", [Buffer.from("\u0001a: b")], 1002, "each header ends with CR LF"],
    ["a header without a colon", [Buffer.from("\u0001a b\r\n")], 1002, "a header is `name: value`, the name in lower case"],
    ["an upper-case name", [Buffer.from("\u0001A: b\r\n")], 1002, "a header is `name: value`, the name in lower case"],
    ["a pseudo-header", [Buffer.from("\u0001:path: /x\r\n")], 1002, "a header is `name: value`, the name in lower case"],
    ["a bare line feed in a value", [Buffer.from("\u0001a: b\nc: d\r\n")], 1002, "a header is `name: value`, the name in lower case"],
    ["a value that is not ASCII", [Buffer.from("\u0001a: \u00e9\r\n")], 1002, "a header is `name: value`, the name in lower case"],
    ["headers of 20 KiB", [Buffer.from(`\u0001a: ${"b".repeat(20_480)}\r\n`)], 1008, "headers may take 16384 bytes"],
    ["a kind that is not there", [headers, Buffer.from([9])], 1002, "there is no such kind of message"],
    ["trailers of a client", [headers, Buffer.from([kinds.trailers])], 1002, "there is no such kind of message"],
    ["nothing at all", [headers, Buffer.alloc(0)], 1002, "there is no such kind of message"],
    ["data of no bytes", [headers, Buffer.from([kinds.data])], 1002, "a message of data carries some"],
    ["a half-close that carries something", [headers, Buffer.from([kinds.halfClose, 1])], 1002, "a half-close carries nothing"],
    ["half-closes twice", [headers, Buffer.from([kinds.halfClose]), Buffer.from([kinds.halfClose])], 1002, "a call has one half-close"],
    ["data after the half-close", [headers, Buffer.from([kinds.halfClose]), Buffer.from([0, 1])], 1002, "nothing comes after a half-close"],
    ["a credit of three bytes", [headers, Buffer.from([kinds.credit, 0, 0, 0])], 1002, "a credit is four bytes"],
    ["a credit of 4 GiB", [headers, Buffer.from([kinds.credit, 255, 255, 255, 255])], 1008, "at most 1048576 bytes may be granted at once"],
    ["a message of 70,000 bytes", [headers, Buffer.alloc(70_000)], 1009, ""],
  ])("%s", async (_, messages, code, reason) => {
    const { port } = await start();
    const caller = await opened(port, { path: "/test.Bytes/Hang" });
    for (const message of messages) caller.socket.send(message);
    expect(await caller.closed).toEqual({ code, reason });
  });

  it("more data than was granted", async () => {
    const { port, upstream } = await start();
    const caller = (await opened(port, { path: "/test.Bytes/Hang" })).begin();
    await upstream.saw("begun");
    for (let at = 0; at < 600; at++) caller.say(kinds.data, Buffer.alloc(16_384));
    expect(await caller.closed).toEqual({ code: 1008, reason: "more was sent than was granted" });
    await upstream.saw("cancelled");
  });

  it("many messages of a byte count as more than their bytes", async () => {
    const { port, upstream } = await start();
    const caller = (await opened(port, { path: "/test.Bytes/Hang" })).begin();
    await upstream.saw("begun");
    for (let at = 0; at < 40_000; at++) caller.say(kinds.data, Buffer.alloc(1));
    expect(await caller.closed).toEqual({ code: 1008, reason: "more was sent than was granted" });
  });

  it.each([
    ["a frame without a mask", Buffer.from([0x82, 1, kinds.headers]), 1002],
    ["a reserved bit", Buffer.from([0xc2, 0x81, 0, 0, 0, 0, kinds.headers]), 1002],
    ["an opcode that is not there", Buffer.from([0x83, 0x81, 0, 0, 0, 0, kinds.headers]), 1002],
    ["a ping of 200 bytes", Buffer.concat([Buffer.from([0x89, 0xfe, 0, 200, 0, 0, 0, 0]), Buffer.alloc(200)]), 1002],
    ["a continuation of nothing", Buffer.from([0x80, 0x81, 0, 0, 0, 0, 1]), 1002],
  ])("%s", async (_, frame, code) => {
    const { port } = await start();
    const socket = connect(port, "127.0.0.1");
    onTestFinished(() => void socket.destroy());
    const lines = ["GET /test.Bytes/Echo HTTP/1.1", "host: a", "connection: Upgrade", "upgrade: websocket", "sec-websocket-version: 13"];
    socket.write([...lines, "sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==", "sec-websocket-protocol: pitwall-grpc.v1", "", ""].join("\r\n"));
    let read = Buffer.alloc(0);
    socket.on("data", (chunk) => (read = Buffer.concat([read, chunk])));
    while (!read.includes("\r\n\r\n")) await once(socket, "data");
    read = read.subarray(read.indexOf("\r\n\r\n") + 4);
    socket.write(frame);
    while (read.length < 4) await once(socket, "data");
    expect([read[0], read.readUInt16BE(2)]).toEqual([0x88, code]);
  });
});

describe("who asks for a connection", () => {
  it.each<[string, Parameters<typeof openSocket>[1], string]>([
    ["from a page of another origin", { headers: { origin: "https://evil.example" } }, "HTTP status 403"],
    ["from an origin that only begins like one that may", { headers: { origin: `${origin}.evil.example` } }, "HTTP status 403"],
    ["from an origin in other letters", { headers: { origin: origin.toUpperCase() } }, "HTTP status 403"],
    ["from a sandboxed page", { headers: { origin: "null" } }, "HTTP status 403"],
    ["with a token in the address", { path: "/test.Bytes/Echo?access_token=x" }, "HTTP status 404"],
    ["for an address that is no call's", { path: "/else" }, "HTTP status 404"],
    ["without a subprotocol", { protocol: "" }, "HTTP status 400"],
    ["with another subprotocol", { protocol: "grpc-websockets" }, "HTTP status 400"],
  ])("%s is refused", async (_, options, words) => {
    const { port } = await start();
    await expect(openSocket(port, options)).rejects.toThrow(words);
  });

  it.each([
    ["a listed page", { headers: { origin } }],
    ["a program", {}],
  ])("%s is let in", async (_, options) => {
    const { port } = await start();
    const caller = (await opened(port, options)).begin().message("x").halfClose();
    expect(statusOf((await caller.all()).trailers)).toBe("grpc-status: 0");
  });

  it("a page of the gateway's own origin is let in", async () => {
    const { port } = await start();
    const caller = (await opened(port, { headers: { origin: `http://127.0.0.1:${port}` } })).begin().message("x").halfClose();
    expect(statusOf((await caller.all()).trailers)).toBe("grpc-status: 0");
  });
});

describe("a token", () => {
  async function issuer(): Promise<{ url: string; sign: (expires: string) => Promise<string> }> {
    const { privateKey, publicKey } = await generateKeyPair("ES256");
    const jwk = { ...(await exportJWK(publicKey)), kid: "one", alg: "ES256" };
    const server = createServer((request, response) => {
      response.setHeader("content-type", "application/json");
      response.end(JSON.stringify(request.url === "/keys" ? { keys: [jwk] } : { issuer: url, jwks_uri: `${url}/keys` }));
    }).listen(0, "127.0.0.1");
    await once(server, "listening");
    onTestFinished(() => void server.close());
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`; // it listens on TCP
    const sign = (expires: string): Promise<string> =>
      new SignJWT()
        .setProtectedHeader({ alg: "ES256", kid: "one", typ: "at+jwt" })
        .setIssuer(url)
        .setAudience("pitwall")
        .setSubject("ada")
        .setIssuedAt("-1h")
        .setExpirationTime(expires)
        .sign(privateKey);
    return { url, sign };
  }

  it.each([
    ["that is good goes up", "1h", "grpc-status: 0"],
    ["that has expired is UNAUTHENTICATED", "-1m", "grpc-status: 16"],
    ["that is none is UNAUTHENTICATED", undefined, "grpc-status: 16"],
  ])("%s", async (_, expires, status) => {
    const { url, sign } = await issuer();
    const { port, upstream } = await start(openDoor(openVerifier({ issuer: url, audience: "pitwall" })));
    const caller = await opened(port);
    caller.begin(expires === undefined ? {} : { authorization: `Bearer ${await sign(expires)}` });
    const { trailers } = await caller.message("x").halfClose().all();
    expect(statusOf(trailers)).toBe(status);
    expect(upstream.seen.includes("begun")).toBe(status === "grpc-status: 0");
    expect((await caller.closed).code).toBe(1000);
  });
});

describe("a connection", () => {
  it("whose headers do not come ends within seconds", { timeout: 20_000 }, async () => {
    const { port } = await start();
    const begun = performance.now();
    const caller = await opened(port);
    expect(await caller.closed).toEqual({ code: 1008, reason: "the call's headers did not come in time" });
    expect(performance.now() - begun).toBeGreaterThan(9_000);
  });

  it("that is no call yet ends when the gateway stops", async () => {
    const { port, web } = await start();
    const caller = await opened(port);
    await Promise.all([web[Symbol.asyncDispose](), caller.closed]);
    expect(await caller.closed).toEqual({ code: 1001, reason: "the gateway is stopping" });
    await expect(openSocket(port)).rejects.toThrow("ECONNREFUSED");
  });
});
