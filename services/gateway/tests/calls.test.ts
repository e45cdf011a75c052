// What calls carry through the web port, byte by byte: a real HTTP/2 upstream that does what each test says, and raw clients.
import { once } from "node:events";
import { request, type IncomingMessage } from "node:http";
import { constants, type IncomingHttpHeaders } from "node:http2";
import { connect } from "node:net";
import { describe, expect, it, onTestFinished } from "vitest";
import { answer, answered, frame, gatewayBefore, text } from "./support/gateway-before.ts";
import { call, call2, session2, trailersOf, webHeaders } from "./support/upstream.ts";

describe("headers", () => {
  it("that come several times stay several, both ways", async () => {
    let seen: readonly string[] = [];
    const { port } = await gatewayBefore((stream, _, raw) => {
      seen = raw;
      answer(stream, frame, { "x-end": ["a", "b"] }, { "x-begin": ["1", "2,3"], "y-bin": "AAE" });
    });
    const valuesOf = (raw: readonly string[], name: string): string[] => raw.filter((_, at) => at % 2 === 1 && raw[at - 1] === name);
    const sent = { ...webHeaders, "x-mine": ["1", "2, 3"], "z-bin": "AAEC" };
    const { rawHeaders, body } = await call(port, frame, sent);
    expect(valuesOf(seen, "x-mine")).toEqual(["1", "2, 3"]);
    expect(valuesOf(seen, "z-bin")).toEqual(["AAEC"]);
    expect(valuesOf(rawHeaders, "x-begin")).toEqual(["1", "2,3"]);
    expect(valuesOf(rawHeaders, "y-bin")).toEqual(["AAE"]);
    expect(trailersOf(body)).toBe("grpc-status: 0\r\nx-end: a\r\nx-end: b\r\n");

    await using session = await session2(port);
    const again = await call2(session, frame, sent);
    expect(valuesOf(seen, "x-mine")).toEqual(["1", "2, 3"]);
    expect(valuesOf(again.rawHeaders, "x-begin")).toEqual(["1", "2,3"]);
    expect(trailersOf(again.body)).toBe(trailersOf(body));
  });

  it("of connections, browsers and proxies end here", async () => {
    let seen: IncomingHttpHeaders = {};
    const { port } = await gatewayBefore((stream, headers) => {
      seen = headers;
      answer(stream, frame);
    });
    const dropped = { connection: "close, x-hop", "x-hop": "1", cookie: "a=b", "x-forwarded-for": "192.0.2.1", forwarded: "for=192.0.2.1" };
    await call(port, frame, { ...webHeaders, ...dropped, "x-kept": "1" });
    expect(seen).toMatchObject({ "x-kept": "1", "content-type": "application/grpc+proto", te: "trailers" });
    for (const name of Object.keys(dropped)) expect(seen).not.toHaveProperty(name);
  });

  it("of more than 16 KiB are refused", async () => {
    const { port } = await gatewayBefore((stream) => answer(stream, frame));
    expect(await call(port, frame, { ...webHeaders, "x-large": "x".repeat(17_000) })).toMatchObject({ status: 431 });
    await using session = await session2(port);
    expect(await call2(session, frame, { ...webHeaders, "x-large": "x".repeat(17_000) })).toMatchObject({ status: 431 });
    expect(trailersOf((await call2(session, frame)).body)).toBe("grpc-status: 0\r\n");
  });

  it("with two hosts are refused", async () => {
    const { port } = await gatewayBefore((stream) => answer(stream, frame));
    const socket = connect(port, "127.0.0.1");
    onTestFinished(() => void socket.destroy());
    socket.write("GET /healthz HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n");
    const [said] = (await once(socket.setEncoding("latin1"), "data")) as [string];
    expect(said).toMatch(/^HTTP\/1.1 400 /);
  });

  it.each([
    ["application/grpc-web", "application/grpc", "application/grpc-web"],
    ["application/grpc-web+json", "application/grpc+json", "application/grpc-web+json"],
    ["application/grpc-web-text", "application/grpc", "application/grpc-web-text"],
    ["application/grpc-web-text+thrift", "application/grpc+thrift", "application/grpc-web-text+thrift"],
  ])("say %s to us, %s to the upstream, and %s to the client", async (asked, passed, said) => {
    const { port } = await gatewayBefore((stream, headers) => {
      answer(stream, frame, {}, { "content-type": headers["content-type"], "x-seen": headers["content-type"] });
    });
    expect((await call(port, "", { "content-type": asked })).headers).toMatchObject({ "content-type": said, "x-seen": passed });
  });
});

describe("base64", () => {
  it.each([
    ["whole", [frame.toString("base64")]],
    ["in groups with padding between", [frame.subarray(0, 4).toString("base64"), frame.subarray(4).toString("base64")]],
    ["in pieces of any length", [...frame.toString("base64")]],
  ])("goes up %s, and comes back", async (_, pieces) => {
    const { port } = await gatewayBefore((stream) => {
      const read: Buffer[] = [];
      stream
        .on("data", (chunk: Buffer) => read.push(chunk))
        .once("end", () => {
          stream.respond(answered, { waitForTrailers: true });
          stream.once("wantTrailers", () => stream.sendTrailers({ "grpc-status": "0" }));
          stream.end(Buffer.concat(read));
        });
    });
    const sent = request({ port, host: "127.0.0.1", path: "/a.B/C", method: "POST", headers: text });
    for (const piece of pieces) sent.write(piece);
    sent.end();
    const [reply] = (await once(sent, "response")) as [IncomingMessage];
    let said = "";
    for await (const chunk of reply.setEncoding("latin1")) said += chunk as string; // an encoding is set
    const body = Buffer.concat((said.match(/[^=]+={0,2}/g) ?? []).map((group) => Buffer.from(group, "base64")));
    expect(body.subarray(0, frame.length)).toEqual(frame);
    expect(trailersOf(body)).toBe("grpc-status: 0\r\n");
  });

  it.each(["AAAA!", "AAA", "A==="])("%s is none: INVALID_ARGUMENT", async (body) => {
    const { port } = await gatewayBefore((stream) => answer(stream, frame));
    const said = Buffer.from((await call(port, body, text)).body.toString(), "base64");
    expect(trailersOf(said)).toMatch(/^grpc-status: 3\r\ngrpc-message: the body of a gRPC-Web text call must be base64/);
  });
});

describe("a request", () => {
  it("without a byte, which ends while its upstream is being opened, goes on and ends there", async () => {
    const { port } = await gatewayBefore((stream) => answer(stream, frame));
    await using session = await session2(port);
    const stream = session.request({ ":method": "POST", ":path": "/a.B/C", ...webHeaders });
    stream.end();
    const [headers] = (await once(stream, "response")) as [IncomingHttpHeaders];
    expect(headers[":status"]).toBe(200);
    stream.resume();
    await once(stream, "close");
  });

  it("on HTTP/1.1 that is answered and does not end loses its connection, and the answer is whole before", async () => {
    const { port } = await gatewayBefore((stream) => {
      stream.respond({ ...answered, "grpc-status": "8" }, { endStream: true });
    });
    const sent = request({ port, host: "127.0.0.1", path: "/a.B/C", method: "POST", headers: webHeaders });
    const closed = new Promise<void>((resolve) => sent.on("error", () => undefined).once("close", () => resolve()));
    sent.write(frame); // and no end
    const [reply] = (await once(sent, "response")) as [IncomingMessage];
    const chunks: Buffer[] = [];
    for await (const part of reply) chunks.push(part as Buffer); // no encoding is set
    expect(trailersOf(Buffer.concat(chunks))).toBe("grpc-status: 8\r\n");
    await closed;
  });

  it("that is answered before it has ended is told to stop, and the answer is whole", async () => {
    const { port } = await gatewayBefore((stream) => {
      stream.respond({ ...answered, "grpc-status": "8" }, { endStream: true });
    });
    await using session = await session2(port);
    for (const headers of [webHeaders, { "content-type": "application/grpc" }]) {
      const stream = session.request({ ":method": "POST", ":path": "/a.B/C", ...headers });
      stream.write(frame); // and no end
      const [said] = (await once(stream, "response")) as [IncomingHttpHeaders];
      const chunks: Buffer[] = [];
      for await (const part of stream) chunks.push(part as Buffer); // no encoding is set
      expect(said["grpc-status"] ?? /\d+/.exec(trailersOf(Buffer.concat(chunks)))?.[0]).toBe("8");
      expect(stream.rstCode).toBe(constants.NGHTTP2_NO_ERROR);
    }
  });

  it.each([
    ["GET", "/healthz", {}, 200],
    ["HEAD", "/healthz", {}, 200],
    ["GET", "/.well-known/pitwall", {}, 404],
    ["GET", "/vm/web/80/", {}, 404],
    ["PUT", "/a.B/C", webHeaders, 405],
    ["POST", "/a.B/C", { "content-type": "application/json" }, 415],
  ])("%s %s %j is answered with %d on HTTP/1.1 and HTTP/2", async (method, path, headers, status) => {
    const { port } = await gatewayBefore((stream) => answer(stream, frame));
    const sent = request({ port, host: "127.0.0.1", path, method, headers });
    sent.end();
    const [{ statusCode }] = (await once(sent, "response")) as [{ statusCode: number }];
    await using session = await session2(port);
    const stream = session.request({ ":method": method, ":path": path, ...headers }, { endStream: true });
    const [said] = (await once(stream, "response")) as [IncomingHttpHeaders];
    expect([statusCode, said[":status"]]).toEqual([status, status]);
  });
});

describe("a page", () => {
  it.each([
    ["https://console.example.com", true],
    ["https://console.example.com.evil.example", false],
    ["http://console.example.com", false],
    ["https://CONSOLE.example.com", false],
    ["null", false],
    ["https://console.example.com/", false],
    ["https://console.example.com:443", false],
    ["https://console.example.com:8443", false],
    ["https://console.example.com.", false],
    ["https://console.example.co", false],
    ["https://evil.example/https://console.example.com", false],
    ["https://console.example.com@evil.example", false],
    ["https://evil.example#https://console.example.com", false],
    ["https://consoleXexample.com", false],
    ["https://a.console.example.com", false],
    ["https://example.com", false],
    ["https://console.example.com,https://evil.example", false],
    ["https://evil.example,https://console.example.com", false],
    ["https://console.example.com https://evil.example", false],
    ["https:console.example.com", false],
    ["//console.example.com", false],
    ["console.example.com", false],
    ["HTTPS://console.example.com", false],
    ["https://console%2eexample.com", false],
    ["*", false],
    ["file://", false],
  ])("of %s may call: %s, on HTTP/1.1 and HTTP/2", async (origin, may) => {
    const { port } = await gatewayBefore((stream) => answer(stream, frame));
    await using session = await session2(port);
    const expected = may ? origin : undefined;
    expect((await call(port, frame, { ...webHeaders, origin })).headers["access-control-allow-origin"]).toBe(expected);
    expect((await call2(session, frame, { ...webHeaders, origin })).headers["access-control-allow-origin"]).toBe(expected);
    const preflight = session.request({ ":method": "OPTIONS", ":path": "/a.B/C", origin }, { endStream: true });
    const [said] = (await once(preflight, "response")) as [IncomingHttpHeaders];
    expect(said[":status"]).toBe(may ? 204 : 405);
    expect([said["vary"], said["access-control-allow-credentials"]]).toEqual(["origin", undefined]);
  });

  it("or who else asks without one is told that others may have another answer", async () => {
    const { port } = await gatewayBefore((stream) => answer(stream, frame));
    await using session = await session2(port);
    expect((await call(port, frame)).headers["vary"]).toBe("origin");
    expect((await call2(session, frame)).headers["vary"]).toBe("origin");
  });

  const origin = "https://console.example.com";
  it("may send and read metadata of its own where nobody knows what methods take, and there alone", async () => {
    for (const takesAnyMetadata of [false, true]) {
      const { port } = await gatewayBefore((stream) => answer(stream, frame, {}, { "x-mine": "1", "y-bin": "AA" }), { takesAnyMetadata });
      await using session = await session2(port);
      const allowed = async (asked: string): Promise<unknown> => {
        const headers = { ":method": "OPTIONS", ":path": "/a.B/C", origin, "access-control-request-headers": asked };
        const [said] = (await once(session.request(headers, { endStream: true }), "response")) as [IncomingHttpHeaders];
        return said["access-control-allow-headers"];
      };
      const usual = "authorization,content-type,grpc-timeout,pitwall-vm,x-grpc-web,x-user-agent";
      expect(await allowed("x-asked,Y-Bin")).toBe(takesAnyMetadata ? `${usual},x-asked,y-bin` : usual);
      for (const bad of ["a b", "x,", "a:b", "x".repeat(5_000)]) expect(await allowed(bad)).toBe(usual);
      const { headers } = await call(port, frame, { ...webHeaders, origin });
      const status = "grpc-status,grpc-message,grpc-status-details-bin";
      expect(headers["access-control-expose-headers"]).toBe(takesAnyMetadata ? `${status},x-mine,y-bin` : status);
    }
  });
});
