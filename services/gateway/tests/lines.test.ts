// Whatever lines of HTTP/1.1 a client sends, and whatever a VM answers to them: nothing is left unheard that would end the process, no
// request waits for ever, and others are served.
import { once } from "node:events";
import { connect, createServer as createTcpServer } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import fc from "fast-check";
import { expect, it } from "vitest";
import { ask1 } from "./support/ingress-clients.ts";
import { bearer, vmBehind } from "./support/vm-behind.ts";

/** For what comes after the first of an answer. */
const settleMs = 10;
/** Nothing is answered while a request is not whole. */
const quietMs = 100;

const oneOf = (...texts: string[]): fc.Arbitrary<string> => fc.constantFrom(...texts);
const eol = fc.oneof({ weight: 30, arbitrary: fc.constant("\r\n") }, { weight: 1, arbitrary: oneOf("\n", "\r", "") });
const field = oneOf(
  ...["host: a", "host: web.vms.example.com", "host: x.y.vms.example.com", `authorization: ${bearer}`, "authorization: Basic YTpi"],
  ...[
    "content-length: 0",
    "content-length: 3",
    "content-length: 1000",
    "content-length: x",
    "transfer-encoding: chunked",
    "transfer-encoding: x",
  ],
  ...["connection: close", "connection: keep-alive", "connection: upgrade", "upgrade: websocket", "upgrade: pitwall-tcp", "upgrade: h2c"],
  ...["sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==", "sec-websocket-version: 13", "sec-websocket-protocol: pitwall-grpc.v1"],
  ...[
    "content-type: application/grpc-web+proto",
    "content-type: application/grpc-web-text",
    "expect: 100-continue",
    "cookie: __Host-pitwall-grant=x",
  ],
  ...["origin: https://console.example.com", ": x", "x", " folded", "x: \0", `x: ${"y".repeat(9_000)}`, "__proto__: x"],
);
const target = oneOf(
  "/vm/web/80/",
  "/vm/web/80/",
  "/",
  "/healthz",
  "/a.B/C",
  "*",
  "http://b/vm/web/80/",
  "/?pitwall-grant=x",
  "//",
  "/vm/web/81/",
);
const body = oneOf("", "abc", "3\r\nabc\r\n0\r\n\r\n", "zz\r\n", "0\r\n\r\nGET / HTTP/1.1\r\n\r\n", "\x00\x00\x00\x00\x00", "!!!!");
const mostly = (usual: fc.Arbitrary<string>, odd: fc.Arbitrary<string>): fc.Arbitrary<string> =>
  fc.oneof({ weight: 6, arbitrary: usual }, { weight: 1, arbitrary: odd });
const request = fc
  .tuple(
    mostly(oneOf("GET", "GET", "POST"), oneOf("HEAD", "OPTIONS", "CONNECT", "x", "")),
    mostly(fc.constant("/vm/web/80/"), target),
    mostly(fc.constant("HTTP/1.1"), oneOf("HTTP/1.0", "HTTP/2.0", "")),
    mostly(fc.constant(`host: a\r\nauthorization: ${bearer}\r\n`), fc.constant("")),
    fc.array(fc.tuple(field, eol), { maxLength: 3 }),
    body,
  )
  .map(
    ([method, path, version, who, fields, rest]) =>
      `${method} ${path} ${version}\r\n${who}${fields.map(([line, end]) => line + end).join("")}\r\n${rest}`,
  );
const answer = fc
  .tuple(
    oneOf(
      "HTTP/1.1 200 OK",
      "HTTP/1.1 200 OK",
      "HTTP/1.1 101 X",
      "HTTP/1.1 100 X",
      "HTTP/1.1 204 X",
      "HTTP/1.1 999 X",
      "HTTP/1.0 200",
      "HTTP/1.1 000 X",
      "SSH-2.0-x",
    ),
    fc.array(
      oneOf(
        "content-length: 2",
        "content-length: 9",
        "transfer-encoding: chunked",
        "connection: upgrade",
        "upgrade: websocket",
        "upgrade: x",
        "connection: close",
        "x: \0",
        "set-cookie: a=b; Domain=x",
        ":status: 5",
        "trailer: x",
        "location: /x",
      ),
      { maxLength: 4 },
    ),
    oneOf("", "ok", "2\r\nok\r\n0\r\n\r\n", "2\r\nok\r\n0\r\nx: y\r\n\r\n", "ok and more", "HTTP/1.1 200 OK\r\n\r\n"),
  )
  .map(([status, fields, rest]) => `${[status, ...fields].join("\r\n")}\r\n\r\n${rest}`);

it("ends nothing but itself", { timeout: 120_000 }, async () => {
  let answering = "";
  const guest = createTcpServer((socket) => {
    socket.on("error", () => undefined).once("data", () => socket.end(Buffer.from(answering, "latin1")));
  });
  const { port } = await vmBehind(guest, { domain: "vms.example.com", idleMs: 500, limits: { headersMs: 500 } });
  await fc.assert(
    fc.asyncProperty(fc.array(request, { minLength: 1, maxLength: 3 }), answer, async (requests, said) => {
      answering = said;
      const socket = connect(port, "127.0.0.1");
      socket.on("error", () => undefined);
      const closed = once(socket, "close");
      socket.write(Buffer.from(requests.join(""), "latin1"));
      const answered = once(socket, "data").then(() => sleep(settleMs));
      answered.catch(() => undefined); // raced
      await Promise.race([closed, answered, sleep(quietMs)]);
      socket.destroy();
      await closed;
    }),
    { numRuns: 300 },
  );
  answering = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
  expect((await ask1(port)).status).toBe(200);
});
