// Clients that mean harm, on raw sockets, each beside a good one, which goes on as if they were not there.
import { once } from "node:events";
import { describe, expect, it, onTestFinished } from "vitest";
import { startLoneGateway } from "./support/children.ts";
import { answer, frame } from "./support/gateway-before.ts";
import { isServed, raw, refused, start } from "./support/hostile-clients.ts";
import { socketTo } from "./support/ingress-clients.ts";
import { callBlock, endHeaders, endStream, frameKind, frameOf, headerBlock, RawHttp2 } from "./support/raw-http2.ts";
import { call, call2, openUpstream, session2, trailersOf, webHeaders } from "./support/upstream.ts";

const statusOf = (body: Buffer): string => /^grpc-status: (\d+)/m.exec(trailersOf(body))?.[1] ?? "none";
/** A frame whose message has so many bytes. */
function message(length: number): Buffer {
  const head = Buffer.alloc(5);
  head.writeUInt32BE(length, 1);
  return Buffer.concat([head, Buffer.alloc(length)]);
}

describe("connections", () => {
  it("that stay silent keep nobody out, and end", async () => {
    const gateway = await start({ connectionsPerSource: 20, headersMs: 1_500 });
    const silent = await Promise.all(Array.from({ length: 60 }, () => socketTo(gateway.port)));
    await isServed(gateway.port);
    expect(await refused(gateway, "connections_per_source")).toBeGreaterThanOrEqual(40);
    expect(silent.filter(({ destroyed }) => !destroyed).length).toBeLessThanOrEqual(20);
    await Promise.all(silent.map(async (socket) => socket.destroyed || once(socket.resume(), "close")));
  });

  it("that are at work are not closed for new ones: those are", async () => {
    const gateway = await start({ connectionsPerSource: 2 });
    const working = await Promise.all([session2(gateway.port), session2(gateway.port)]);
    for (const session of working) expect(trailersOf((await call2(session, frame)).body)).toBe("grpc-status: 0\r\n");
    const third = await socketTo(gateway.port);
    await once(third.resume(), "close");
    for (const session of working) {
      expect(trailersOf((await call2(session, frame)).body)).toBe("grpc-status: 0\r\n");
      session.destroy();
    }
    await expect
      .poll(() =>
        isServed(gateway.port).then(
          () => "served",
          () => "not",
        ),
      )
      .toBe("served");
  });

  it("beyond those in all make the oldest silent one go", async () => {
    const gateway = await start({ connections: 10 });
    const silent = await Promise.all(Array.from({ length: 30 }, () => socketTo(gateway.port)));
    await isServed(gateway.port);
    expect(await refused(gateway, "connections")).toBeGreaterThanOrEqual(20);
    expect(silent[0]?.destroyed).toBe(true);
  });
});

describe("calls that break", () => {
  const code = (value: number): Buffer => Buffer.from([0, 0, 0, value]);
  it.each([
    ["are longer than they say", [callBlock({ "content-length": "1" }), frameOf(frameKind.data, endStream, 1, frame)]],
    ["are shorter than they say", [callBlock({ "content-length": "100" }), frameOf(frameKind.data, endStream, 1, frame)]],
    ["are reset with PROTOCOL_ERROR", [callBlock(), frameOf(frameKind.reset, 0, 1, code(1))]],
    ["are reset with a code that nobody knows", [callBlock(), frameOf(frameKind.reset, 0, 1, code(200))]],
    ["go on after their end", [callBlock(), frameOf(frameKind.data, endStream, 1), frameOf(frameKind.data, 0, 1, frame)]],
    ["have a frame that is none", [callBlock(), frameOf(frameKind.windowUpdate, 0, 1, code(0))]],
  ])("in the same breath as they begin, because they %s, end no more than themselves", async (_, [head = Buffer.alloc(0), ...frames]) => {
    const gateway = await start();
    const client = raw(gateway.port);
    client.socket.write(Buffer.concat([frameOf(frameKind.headers, endHeaders, 1, head), ...frames]));
    await isServed(gateway.port); // by when those frames have been read
    await isServed(gateway.port);
  });
});

describe("calls at once", () => {
  it.each(["callsPerSource", "calls"] as const)("beyond %s are RESOURCE_EXHAUSTED, and are taken once others have ended", async (limit) => {
    const gateway = await start({ [limit]: 5 });
    await using session = await session2(gateway.port);
    const hanging = Array.from({ length: 5 }, () => {
      const stream = session.request({ ":method": "POST", ":path": "/a.B/C", ...webHeaders, "x-hang": "1" });
      stream.on("error", () => undefined);
      stream.end(frame);
      return stream;
    });
    await expect.poll(async () => (await gateway.metrics.registry.metrics()).includes("pitwall_gateway_calls 5")).toBe(true);
    expect(statusOf((await call(gateway.port, frame)).body)).toBe("8");
    expect(await refused(gateway, limit === "calls" ? "calls" : "calls_per_source")).toBe(1);
    hanging[0]?.close();
    await expect.poll(async () => statusOf((await call(gateway.port, frame)).body)).toBe("0");
  });

  it("on one connection of HTTP/2 are as many as the settings say, whoever heeds them", async () => {
    const gateway = await start({ callsPerConnection: 10 });
    const client = raw(gateway.port);
    for (let at = 0; at < 30; at++) client.say(frameKind.headers, endHeaders, 2 * at + 1, callBlock({ "x-hang": "1" }));
    await expect.poll(async () => (await gateway.metrics.registry.metrics()).includes("pitwall_gateway_calls 10")).toBe(true);
    await isServed(gateway.port);
    expect(await gateway.metrics.registry.metrics()).toContain("pitwall_gateway_calls 10");
  });
});

describe("messages", () => {
  it("that are too long are RESOURCE_EXHAUSTED as soon as they say so", async () => {
    const gateway = await start({ messageBytes: 1_000 });
    expect(statusOf((await call(gateway.port, message(1_000))).body)).toBe("0");
    const { body } = await call(gateway.port, message(1_001).subarray(0, 5));
    expect(trailersOf(body)).toMatch(/^grpc-status: 8\r\ngrpc-message: a message may have 1000 bytes, and this one has 1001\r\n/);
    const text = { "content-type": "application/grpc-web-text" };
    const { body: encoded } = await call(gateway.port, message(1_001).toString("base64"), text);
    expect(statusOf(Buffer.from(encoded.toString(), "base64"))).toBe("8");
    expect(await refused(gateway, "message_bytes")).toBe(2);
  });

  it("of a call that are too many bytes end it", async () => {
    const gateway = await start({ callBytes: 10_000 });
    expect(statusOf((await call(gateway.port, Buffer.concat(Array.from({ length: 12 }, () => message(900))))).body)).toBe("8");
    expect(await refused(gateway, "call_bytes")).toBe(1);
  });

  it("in frames of a byte end their call, and whole ones of a byte do not", async () => {
    const gateway = await start();
    const client = raw(gateway.port);
    client.say(frameKind.headers, endHeaders, 1, callBlock()).say(frameKind.data, 0, 1, message(100_000).subarray(0, 5));
    await expect.poll(() => gateway.upstream.sessions.size).toBe(1); // what comes in the same breath as a call is one piece of it
    for (let at = 0; at < 2_000; at++) client.say(frameKind.data, 0, 1, Buffer.alloc(1));
    await expect.poll(() => refused(gateway, "small_frames")).toBe(1);
    await isServed(gateway.port);
    await using session = await session2(gateway.port);
    const stream = session.request({ ":method": "POST", ":path": "/a.B/C", "content-type": "application/grpc" });
    for (let at = 0; at < 1_000; at++) stream.write(message(1));
    stream.end();
    const trailers = once(stream, "trailers");
    stream.resume();
    expect(((await trailers) as [Record<string, string>])[0]["grpc-status"]).toBe("0");
  });
});

describe("headers", () => {
  it("that are too long are 431 on HTTP/1.1", async () => {
    const gateway = await start({ headerBytes: 4_096 });
    const socket = await socketTo(gateway.port);
    socket.write(`POST /a.B/C HTTP/1.1\r\nhost: a\r\nx-long: ${"x".repeat(5_000)}\r\n\r\n`);
    const [said] = (await once(socket.setEncoding("latin1"), "data")) as [string];
    expect(said).toMatch(/^HTTP\/1.1 431 /);
    expect(await refused(gateway, "header_bytes")).toBe(1);
    await isServed(gateway.port);
  });

  it("that are too long are refused on HTTP/2, however many frames they take", async () => {
    const gateway = await start();
    const client = raw(gateway.port);
    client.say(frameKind.headers, 0, 1, callBlock());
    for (let at = 0; at < 20_000 && !client.socket.destroyed; at++) {
      client.say(frameKind.continuation, 0, 1, headerBlock({ [`x-${at}`]: "y".repeat(1_000) }));
      if (at % 100 === 0) await client.flushed();
    }
    await client.closed;
    await isServed(gateway.port);
    expect(await refused(gateway, "http2")).toBe(1);
  });

  it("of CONTINUATION frames without end, each of nothing, are refused", async () => {
    const gateway = await start();
    const client = raw(gateway.port);
    client.say(frameKind.headers, 0, 1, callBlock());
    for (let at = 0; at < 20_000 && !client.socket.destroyed; at++) {
      client.say(frameKind.continuation, 0, 1);
      if (at % 100 === 0) await client.flushed();
    }
    await client.closed;
    await isServed(gateway.port);
  });

  it("that trickle in lose their connection, on HTTP/1.1 and HTTP/2", { timeout: 30_000 }, async () => {
    const gateway = await start({ headersMs: 700, idleMs: 900 });
    const socket = await socketTo(gateway.port);
    const client = raw(gateway.port);
    client.say(frameKind.headers, 0, 1, callBlock());
    socket.write("POST /a.B/C HTTP/1.1\r\nhost: a\r\n");
    const trickle = setInterval(() => {
      if (!socket.destroyed) socket.write("x: y\r\n");
    }, 100);
    onTestFinished(() => clearInterval(trickle));
    await Promise.all([once(socket.resume(), "close"), client.closed]);
    expect(await refused(gateway, "headers_time")).toBe(1);
    await isServed(gateway.port);
  });

  it.each([
    ["content-length and transfer-encoding", "content-length: 4\r\ntransfer-encoding: chunked\r\n"],
    ["two content-lengths", "content-length: 4\r\ncontent-length: 5\r\n"],
    ["a space before a colon", "content-length : 4\r\n"],
    ["a bare line feed", "x: y\nz: w\r\n"],
    ["an unknown transfer-encoding", "transfer-encoding: xchunked\r\n"],
    ["a folded line", "x: y\r\n z\r\ntransfer-encoding : chunked\r\n"],
    ["two hosts", "host: b\r\n"],
  ])("with %s are 400", async (_, lines) => {
    const gateway = await start();
    const socket = await socketTo(gateway.port);
    socket.write(`POST /a.B/C HTTP/1.1\r\nhost: a\r\ncontent-type: application/grpc-web\r\n${lines}\r\n`);
    const [said] = (await once(socket.setEncoding("latin1"), "data")) as [string];
    expect(said).toMatch(/^HTTP\/1.1 (400|501) /);
  });
});

it("a gRPC-Web request whose body trickles in is DEADLINE_EXCEEDED", async () => {
  const gateway = await start({ requestMs: 500 });
  const socket = await socketTo(gateway.port);
  socket.write("POST /a.B/C HTTP/1.1\r\nhost: a\r\ncontent-type: application/grpc-web\r\ncontent-length: 1000\r\n\r\n");
  const trickle = setInterval(() => socket.write("\0"), 100);
  onTestFinished(() => clearInterval(trickle));
  let said = "";
  for (socket.setEncoding("latin1"); !said.includes("grpc-status: 4\r\n");) said += ((await once(socket, "data")) as [string])[0];
  expect(await refused(gateway, "request_time")).toBe(1);
  await isServed(gateway.port);
});

describe("the gateway's memory", () => {
  const mib = 2 ** 20;
  const mayGrow = 64 * mib;
  /** By the same again. */
  const mayAdd = 16 * mib;

  it(
    "grows little under 2,000 silent connections, 100 MB of headers and 250 calls in frames of a byte, and no more when that comes again",
    {
      timeout: 120_000,
    },
    async () => {
      await using upstream = await openUpstream((stream, headers) => {
        if (headers["x-hang"] === undefined) answer(stream, frame);
        else stream.resume();
      });
      await using gateway = await startLoneGateway(upstream.port, ["--ops-listen", "127.0.0.1:0"]);
      const { ops } = JSON.parse(gateway.line) as { ops: number };
      const rss = async (): Promise<number> => {
        const text = await (await fetch(`http://127.0.0.1:${ops}/metrics`)).text();
        return Number(/^process_resident_memory_bytes (\d+)/m.exec(text)?.[1]);
      };
      const ordinaryWork = async (): Promise<void> => {
        for (let at = 0; at < 100; at++) await Promise.all(Array.from({ length: 30 }, () => call(gateway.port, frame)));
      };
      // It takes some memory, too, which is not the attackers': garbage gathers up to a point, which this reaches.
      for (let at = 0; at < 5; at++) await ordinaryWork();
      const before = await rss();
      expect(before).toBeGreaterThan(mib);
      const grownBy = async (): Promise<number> => {
        await isServed(gateway.port);
        const grown = (await rss()) - before;
        expect(grown).toBeLessThan(mayGrow);
        return grown;
      };

      /** How much memory there is more, after each of the three. */
      async function attack(): Promise<number[]> {
        const grown: number[] = [];
        await using ends = new AsyncDisposableStack();
        for (let at = 0; at < 2_000; at++) {
          const silent = await socketTo(gateway.port);
          ends.defer(() => void silent.destroy());
        }
        grown.push(await grownBy());

        for (let sent = 0; sent < 100 * mib;) {
          using client = new RawHttp2(gateway.port);
          client.say(frameKind.headers, 0, 1, callBlock());
          for (let at = 0; at < 1_000 && !client.socket.destroyed; at++) {
            const block = headerBlock({ [`x-${at}`]: "y".repeat(16_000) });
            client.say(frameKind.continuation, 0, 1, block);
            sent += block.length;
            await client.flushed();
          }
          await client.closed;
        }
        grown.push(await grownBy());

        using client = new RawHttp2(gateway.port);
        for (let at = 0; at < 250; at++) {
          client.say(frameKind.headers, endHeaders, 2 * at + 1, callBlock({ "x-hang": "1" }));
          client.say(frameKind.data, 0, 2 * at + 1, message(100_000).subarray(0, 5));
          for (let byte = 0; byte < 300; byte++) client.say(frameKind.data, 0, 2 * at + 1, Buffer.alloc(1));
          await client.flushed();
        }
        grown.push(await grownBy());
        return grown;
      }
      const first = await attack();
      await ordinaryWork();
      const again = await attack();
      const inMib = (all: readonly number[]): string => all.map((bytes) => (bytes / mib).toFixed(0)).join(", ");
      process.stdout.write(`the gateway's memory under attack, MiB more than before: ${inMib(first)}; the same again: ${inMib(again)}\n`);
      expect(Math.max(...again) - Math.max(...first)).toBeLessThan(mayAdd);
    },
  );
});
