// How calls through the web port end, and what holds them up: deadlines, clients that go, upstreams that fail, whoever reads slowly.
import { once } from "node:events";
import { request, type IncomingMessage } from "node:http";
import { constants, type ServerHttp2Stream } from "node:http2";
import { PitwallError, type Log } from "@pitwall/runtime";
import { describe, expect, it, onTestFinished } from "vitest";
import { GatewayMetrics } from "../src/metrics.ts";
import { defaultLimits } from "../src/web/limits.ts";
import { openWebServer } from "../src/web/server.ts";
import { answer, answered, frame, gatewayBefore } from "./support/gateway-before.ts";
import { call, call2, session2, trailersOf, webHeaders } from "./support/upstream.ts";

describe("a deadline", () => {
  it.each(["an upstream that says nothing", "one that says half"])("ends a call to %s, and the upstream hears CANCEL", async (kind) => {
    let reset: Promise<unknown[]> | undefined;
    let upstreamStream: ServerHttp2Stream | undefined;
    const { port } = await gatewayBefore((stream) => {
      upstreamStream = stream;
      reset = once(stream, "close");
      if (kind === "one that says half") {
        stream.respond(answered);
        stream.write(frame);
      }
    });
    const begun = performance.now();
    const { body } = await call(port, frame, { ...webHeaders, "grpc-timeout": "200m" });
    expect(trailersOf(body)).toMatch(/^grpc-status: 4\r\n/);
    expect(performance.now() - begun).toBeGreaterThanOrEqual(200);
    await reset;
    expect(upstreamStream?.rstCode).toBe(constants.NGHTTP2_CANCEL);
  });
});

describe("a client that goes", () => {
  it.each(["HTTP/1.1", "HTTP/2", "gRPC"])("on %s ends the upstream call", async (kind) => {
    let arrived: (stream: ServerHttp2Stream) => void;
    const arrival = new Promise<ServerHttp2Stream>((resolve) => (arrived = resolve));
    const { port } = await gatewayBefore((stream) => arrived(stream));
    let go: () => void;
    if (kind === "HTTP/1.1") {
      const sent = request({ port, host: "127.0.0.1", path: "/a.B/C", method: "POST", headers: webHeaders });
      sent.on("error", () => undefined).end(frame);
      go = () => sent.destroy();
    } else {
      const session = await session2(port);
      onTestFinished(() => session.destroy());
      const headers = kind === "gRPC" ? { "content-type": "application/grpc" } : webHeaders;
      const stream = session.request({ ":method": "POST", ":path": "/a.B/C", ...headers });
      stream.on("error", () => undefined).write(frame);
      go = () => stream.close(constants.NGHTTP2_CANCEL);
    }
    const stream = await arrival;
    const closed = once(stream, "close");
    go();
    await closed;
    expect(stream.rstCode).toBe(constants.NGHTTP2_CANCEL);
  });
});

it("a client that resets calls without end loses its connection, and nobody else's call suffers", async () => {
  const { port, upstream } = await gatewayBefore((stream, headers) => {
    if (headers["x-good"] !== undefined) answer(stream, frame);
  });
  await using good = await session2(port);
  await using bad = await session2(port);
  const lost = new Promise<void>((resolve) => bad.once("close", () => resolve()));
  for (let round = 0; round < 30 && !bad.closed; round++) {
    for (let at = 0; at < 100 && !bad.closed; at++) {
      const stream = bad.request({ ":method": "POST", ":path": "/a.B/C", ...webHeaders });
      stream.on("error", () => undefined).write(frame);
      stream.close(constants.NGHTTP2_CANCEL);
    }
    expect(trailersOf((await call2(good, frame, { ...webHeaders, "x-good": "1" })).body)).toBe("grpc-status: 0\r\n");
  }
  await lost;
  expect(trailersOf((await call2(good, frame, { ...webHeaders, "x-good": "1" })).body)).toBe("grpc-status: 0\r\n");
  expect(upstream.sessions.size).toBe(1);
});

describe("an upstream that", () => {
  it.each([
    [400, 13],
    [401, 16],
    [403, 7],
    [404, 12],
    [429, 14],
    [500, 2],
    [502, 14],
    [503, 14],
    [504, 14],
  ])("answers with HTTP status %d means %d", async (status, code) => {
    const { port } = await gatewayBefore((stream) => {
      stream.respond({ ":status": status, "content-type": "text/html" });
      stream.end("<h1>no</h1>");
    });
    const { status: http, body } = await call(port, frame);
    expect({ http, code: /^grpc-status: (\d+)\r\n/.exec(trailersOf(body))?.[1] }).toEqual({ http: 200, code: String(code) });
    await using session = await session2(port);
    expect((await call2(session, frame, { "content-type": "application/grpc" })).headers["grpc-status"]).toBe(String(code));
  });

  it.each([
    ["REFUSED_STREAM", constants.NGHTTP2_REFUSED_STREAM, 14],
    ["CANCEL, which its client did not ask for,", constants.NGHTTP2_CANCEL, 14],
    ["ENHANCE_YOUR_CALM", constants.NGHTTP2_ENHANCE_YOUR_CALM, 8],
    ["INADEQUATE_SECURITY", constants.NGHTTP2_INADEQUATE_SECURITY, 7],
    ["INTERNAL_ERROR", constants.NGHTTP2_INTERNAL_ERROR, 13],
  ])("resets with %s means %d", async (_, reset, code) => {
    const { port } = await gatewayBefore((stream) => stream.close(reset));
    expect(trailersOf((await call(port, frame)).body)).toMatch(new RegExp(`^grpc-status: ${code}\r\n`));
  });

  it("resets with CANCEL when the deadline has passed means that", async () => {
    // As far ahead of the gateway's own timer, which is 50 ms late, as can be.
    const { port } = await gatewayBefore((stream) => void setTimeout(() => stream.close(constants.NGHTTP2_CANCEL), 210));
    const { body } = await call(port, frame, { ...webHeaders, "grpc-timeout": "200m" });
    expect(trailersOf(body)).toMatch(/^grpc-status: 4\r\n/);
  });

  const ways: readonly [string, (stream: ServerHttp2Stream) => void][] = [
    ["says goodbye and is gone", ({ session }) => session?.destroy(undefined, constants.NGHTTP2_CANCEL)],
    ["is killed", ({ session }) => session?.socket.destroy()],
  ];
  it.each(ways)("%s makes each call UNAVAILABLE, those too that are being answered", async (_, end) => {
    const begun: ServerHttp2Stream[] = [];
    const { port } = await gatewayBefore((stream, headers) => {
      if (headers["x-half"] !== undefined) {
        stream.respond(answered);
        stream.write(frame);
      }
      begun.push(stream);
      if (begun.length === 20) for (const each of begun) if (!each.destroyed) end(each);
    });
    await using session = await session2(port);
    const grpc = { "content-type": "application/grpc" };
    const calls = Array.from({ length: 5 }, () => [
      call(port, frame).then(({ body }) => /^grpc-status: (\d+)\r\n/.exec(trailersOf(body))?.[1]),
      call(port, frame, { ...webHeaders, "x-half": "1" }).then(({ body }) => /^grpc-status: (\d+)\r\n/.exec(trailersOf(body))?.[1]),
      call2(session, frame, grpc).then(({ headers }) => headers["grpc-status"]),
      call2(session, frame, { ...grpc, "x-half": "1" }).then(({ trailers }) => trailers["grpc-status"]),
    ]);
    expect(await Promise.all(calls.flat())).toEqual(Array.from({ length: 20 }, () => "14"));
  });

  const refusals: readonly [string, (stream: ServerHttp2Stream) => void][] = [
    ["refuses a call", (stream) => stream.close(constants.NGHTTP2_REFUSED_STREAM)],
    ["says goodbye to calls that it has not taken", ({ session }) => session?.goaway(constants.NGHTTP2_NO_ERROR, 1)],
  ];
  it.each(refusals)("%s is asked once more, with all that was said", async (_, refuse) => {
    let came = 0;
    const bodies: Buffer[] = [];
    const { port, metrics } = await gatewayBefore((stream) => {
      came++;
      if (came === 1) return answer(stream, frame);
      if (came === 2) return refuse(stream);
      stream.on("data", (piece: Buffer) => void bodies.push(piece));
      answer(stream, frame);
    });
    for (let at = 0; at < 2; at++) expect(trailersOf((await call(port, frame)).body)).toBe("grpc-status: 0\r\n");
    expect(came).toBe(3);
    expect(Buffer.concat(bodies)).toEqual(frame);
    expect(await metrics.registry.metrics()).toContain("pitwall_gateway_repeated_total 1");
  });

  it("refuses a call twice, or one that was said at length, makes it UNAVAILABLE", async () => {
    let came = 0;
    const { port } = await gatewayBefore((stream, headers) => {
      came++;
      if (headers["x-long"] === undefined) return stream.close(constants.NGHTTP2_REFUSED_STREAM);
      let read = 0;
      stream.on("data", (piece: Buffer) => {
        read += piece.length;
        if (read > 80_000) stream.close(constants.NGHTTP2_REFUSED_STREAM);
      });
    });
    expect(trailersOf((await call(port, frame)).body)).toMatch(/^grpc-status: 14\r\n/);
    expect(came).toBe(2);
    const long = Buffer.concat([Buffer.from([0, 0, 1, 0x86, 0xa0]), Buffer.alloc(100_000)]);
    expect(trailersOf((await call(port, long, { ...webHeaders, "x-long": "1" })).body)).toMatch(/^grpc-status: 14\r\n/);
    expect(came).toBe(3);
  });

  it("refuses a stream of requests amid it goes on with the same ones elsewhere", async () => {
    const bodies: Buffer[] = [];
    let came = 0;
    let half: () => void = () => undefined;
    const halfCame = new Promise<void>((resolve) => (half = resolve));
    const { port } = await gatewayBefore((stream) => {
      if (came++ === 0) {
        stream.once("data", () => {
          half();
          stream.close(constants.NGHTTP2_REFUSED_STREAM);
        });
        return;
      }
      stream.on("data", (piece: Buffer) => void bodies.push(piece));
      answer(stream, frame);
    });
    await using session = await session2(port);
    const stream = session.request({ ":method": "POST", ":path": "/a.B/C", "content-type": "application/grpc" });
    stream.write(frame);
    await halfCame;
    for (let at = 0; at < 5; at++) {
      stream.write(frame);
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    stream.end(frame);
    const [trailers] = (await Promise.all([once(stream, "trailers"), once(stream.resume(), "close")]))[0] as [Record<string, string>];
    expect(trailers["grpc-status"]).toBe("0");
    expect(Buffer.concat(bodies)).toEqual(Buffer.concat(Array.from({ length: 7 }, () => frame)));
  });

  it("says no status at all is at fault: INTERNAL", async () => {
    const { port } = await gatewayBefore((stream) => {
      stream.respond(answered);
      stream.end(frame);
    });
    const { body } = await call(port, frame);
    expect(body.subarray(0, frame.length)).toEqual(frame);
    expect(trailersOf(body)).toMatch(/^grpc-status: 13\r\n/);
  });

  it("answers with trailers alone says them in the body, and to gRPC as they came", async () => {
    const { port } = await gatewayBefore((stream) => {
      stream.respond({ ...answered, "grpc-status": "5", "grpc-message": "no%20such", "x-why": "1" }, { endStream: true });
    });
    const { body, headers } = await call(port, frame);
    expect(trailersOf(body).split("\r\n").toSorted()).toEqual(["", "grpc-message: no%20such", "grpc-status: 5", "x-why: 1"]);
    expect(headers).not.toHaveProperty("grpc-status");
    await using session = await session2(port);
    const native = await call2(session, frame, { "content-type": "application/grpc+proto" });
    expect(native.headers).toMatchObject({ "grpc-status": "5", "x-why": "1", "content-type": "application/grpc+proto" });
  });

  it("loses its connection makes calls UNAVAILABLE, and the next call finds it again", async () => {
    let isBroken = true;
    const { port } = await gatewayBefore((stream) => {
      if (isBroken) stream.session?.socket.destroy();
      else answer(stream, frame);
    });
    expect(trailersOf((await call(port, frame)).body)).toMatch(/^grpc-status: 14\r\n/);
    isBroken = false;
    expect(trailersOf((await call(port, frame)).body)).toBe("grpc-status: 0\r\n");
  });

  it("is not there makes calls UNAVAILABLE", async () => {
    const { port, upstream } = await gatewayBefore((stream) => answer(stream, frame));
    await upstream[Symbol.asyncDispose]();
    expect(trailersOf((await call(port, frame)).body)).toMatch(/^grpc-status: 14\r\n/);
  });

  it("takes two calls at once on a connection gets as many connections as calls need", async () => {
    const waiting: ServerHttp2Stream[] = [];
    const { port, upstream } = await gatewayBefore(
      (stream) => {
        waiting.push(stream);
        if (waiting.length === 6) for (const each of waiting) answer(each, frame);
      },
      { settings: { maxConcurrentStreams: 2 } },
    );
    const answers = await Promise.all(Array.from({ length: 6 }, () => call(port, frame)));
    expect(answers.map(({ body }) => trailersOf(body))).toEqual(Array.from({ length: 6 }, () => "grpc-status: 0\r\n"));
    expect(upstream.sessions.size).toBe(3);
  });
});

describe("whoever reads slowly holds back", () => {
  const chunk = Buffer.alloc(64 * 1024);
  /** All that may wait on the way: windows, buffers of sockets on loopback. */
  const mayWait = 24 * 2 ** 20;
  const endless = 256 * 2 ** 20;

  it.each(["HTTP/1.1", "HTTP/2"])("the upstream, on %s", async (kind) => {
    let sent = 0;
    let stalled: () => void = () => undefined;
    const stall = new Promise<void>((resolve) => (stalled = resolve));
    const { port } = await gatewayBefore((stream) => {
      stream.respond(answered);
      const pour = (): void => {
        while (sent < endless) {
          sent += chunk.length;
          if (!stream.write(chunk)) break;
        }
        clearTimeout(quiet);
        quiet = setTimeout(stalled, 500);
      };
      let quiet: NodeJS.Timeout | undefined;
      stream.on("drain", pour);
      pour();
    });
    if (kind === "HTTP/1.1") {
      const asked = request({ port, host: "127.0.0.1", path: "/a.B/C", method: "POST", headers: webHeaders });
      onTestFinished(() => void asked.on("error", () => undefined).destroy());
      asked.end(frame);
      const [reply] = (await once(asked, "response")) as [IncomingMessage];
      reply.pause();
    } else {
      const session = await session2(port);
      onTestFinished(() => session.destroy());
      const stream = session.request({ ":method": "POST", ":path": "/a.B/C", ...webHeaders });
      stream.end(frame);
      await once(stream, "response");
    }
    await stall;
    expect(sent).toBeLessThan(mayWait);
  });

  it("the client", async () => {
    const { port } = await gatewayBefore((stream) => void stream.pause());
    const asked = request({ port, host: "127.0.0.1", path: "/a.B/C", method: "POST", headers: webHeaders });
    onTestFinished(() => void asked.on("error", () => undefined).destroy());
    let sent = 0;
    await new Promise<void>((resolve) => {
      let quiet: NodeJS.Timeout | undefined;
      const pour = (): void => {
        while (sent < endless) {
          sent += chunk.length;
          if (!asked.write(chunk)) break;
        }
        clearTimeout(quiet);
        quiet = setTimeout(resolve, 500);
      };
      asked.on("drain", pour);
      pour();
    });
    expect(sent).toBeLessThan(mayWait);
  });
});

it("what the gateway itself does wrong is an error in its log, found by the id that the client hears; what it refuses is not", async () => {
  const logged: { level: string; fields: unknown }[] = [];
  const at = (level: string) => (_: string, fields?: unknown) => void logged.push({ level, fields });
  const log: Log = { debug: at("debug"), info: at("info"), warn: at("warn"), error: at("error"), child: () => log };
  const fault = new Error("nobody has thought of it: /etc/secret");
  let thrown: Error = fault;
  const web = await openWebServer(
    { host: "127.0.0.1", port: 0 },
    { open: () => Promise.reject(thrown), corsOrigins: [], limits: defaultLimits, metrics: new GatewayMetrics(), log },
  );
  onTestFinished(() => web[Symbol.asyncDispose]());
  for (const [error, status, level] of [
    [fault, "13", "error"],
    [new PitwallError("denied", "not you", { reason: "NOT_YOU" }), "7", "debug"],
  ] as const) {
    thrown = error;
    const trailers = trailersOf((await call(web.port, frame)).body);
    const callId = /^pitwall-call-id: ([0-9a-f-]{36})\r\n/m.exec(trailers)?.[1];
    expect(callId).toBeDefined();
    expect(trailers).toContain(`grpc-status: ${status}\r\n`);
    expect(trailers).not.toContain("secret");
    expect(logged.splice(0)).toEqual([{ level, fields: { path: "/a.B/C", callId, error } }]);
  }
});
