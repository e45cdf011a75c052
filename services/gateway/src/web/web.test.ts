import { PitwallError } from "@pitwall/runtime";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { statusTrailers, trailersFrame } from "./grpc-reply.ts";
import { grpcWebKind } from "./grpc-web.ts";
import { responseHeaders, upstreamHeaders } from "./headers.ts";
import { ingressTarget } from "./ingress.ts";

describe("which requests are gRPC-Web", () => {
  it.each([
    ["application/grpc-web", "binary"],
    ["application/grpc-web+proto", "binary"],
    ["application/grpc-web-text", "text"],
    ["application/grpc-web-text+proto; charset=utf-8", "text"],
    ["application/grpc", undefined],
    ["application/grpc-webby", undefined],
    ["application/json", undefined],
    [undefined, undefined],
  ])("%s", (type, kind) => expect(grpcWebKind(type)).toBe(kind));
});

/** Lone surrogates too. fast-check's own unit for that makes a table of all code points first, which takes seconds on a busy machine. */
const codePoint = fc.integer({ min: 0, max: 0x10_ff_ff }).map((code) => String.fromCodePoint(code));

describe("a status", () => {
  it("is percent-encoded so that any text passes through a header", () => {
    fc.assert(
      fc.property(fc.string({ unit: codePoint, maxLength: 40 }), (text) => {
        const message = String(statusTrailers(new PitwallError("invalid", text), "7f3")["grpc-message"]);
        expect(message).toMatch(/^[ -~]*$/);
        expect(decodeURIComponent(message)).toBe(text.toWellFormed());
      }),
    );
  });

  it("says nothing of an error that is not meant for users", () => {
    const said = statusTrailers(new Error("password is hunter2"), "7f3");
    expect(said).toMatchObject({ "grpc-status": "13", "pitwall-call-id": "7f3" });
    expect(said["grpc-message"]).toBe("internal error; the gateway's log has more of call 7f3");
    expect(JSON.stringify({ ...said, details: Buffer.from(String(said["grpc-status-details-bin"]), "base64").toString() })).not.toContain(
      "hunter2",
    );
  });

  it("is framed as the last part of a gRPC-Web body", () => {
    const frame = trailersFrame({ "grpc-status": "0", "grpc-message": "" });
    expect(frame[0]).toBe(0x80);
    expect(frame.readUInt32BE(1)).toBe(frame.length - 5);
    expect(frame.subarray(5).toString()).toBe("grpc-status: 0\r\ngrpc-message: \r\n");
  });
});

describe("headers", () => {
  it("of the connection, the browser or the inside do not go up; metadata does", () => {
    const incoming = {
      ":path": "/x",
      host: "h",
      connection: "close",
      cookie: "c",
      origin: "o",
      "sec-fetch-mode": "cors",
      "pitwall-peer-internal": "node/x",
      authorization: "Bearer t",
      "x-mine": "1",
      "grpc-timeout": "1S",
    };
    expect(upstreamHeaders("/a.B/C", incoming)).toEqual({
      ":method": "POST",
      ":path": "/a.B/C",
      "content-type": "application/grpc",
      te: "trailers",
      authorization: "Bearer t",
      "x-mine": "1",
      "grpc-timeout": "1S",
    });
  });

  it("of the upstream connection do not come down, nor what would speak to a browser in the gateway's name", () => {
    const speaking = {
      "set-cookie": ["a=b"],
      "access-control-allow-origin": "*",
      "clear-site-data": '"*"',
      location: "/x",
      "http2-settings": "x",
    };
    const upstream = { "content-type": "application/grpc", date: "now", "content-encoding": "gzip", ...speaking };
    expect(responseHeaders({ ...upstream, "x-mine": ["1", "2"], "grpc-status": "0", "grpc-encoding": "gzip" })).toEqual({
      "x-mine": ["1", "2"],
      "grpc-status": "0",
      "grpc-encoding": "gzip",
    });
  });
});

describe("a path below /vm/", () => {
  it.each([
    ["/vm/web/80/", { vm: "web", port: 80, path: "/", prefix: "/vm/web/80" }],
    ["/vm/web/80", { vm: "web", port: 80, path: "/", prefix: "/vm/web/80" }],
    ["/vm/web/8080/a/b?c=/d?e", { vm: "web", port: 8080, path: "/a/b?c=/d?e", prefix: "/vm/web/8080" }],
    ["/vm/web", undefined],
    ["/vm/Web/80/", undefined],
    ["/vm/web/80x/", undefined],
    ["/other", undefined],
  ])("%s", (url, target) => expect(ingressTarget(url)).toEqual(target));

  it.each(["/vm/web/0/", "/vm/web/65536/"])("%s names a port that no TCP has", (url) =>
    expect(() => ingressTarget(url)).toThrow("port: must be 1 to 65535"),
  );
});
