// Whatever frames of HTTP/2 a client sends, in whatever order: nothing is left unheard that would end the process, and others are served.
import { once } from "node:events";
import { createServer } from "node:http";
import fc from "fast-check";
import { expect, it } from "vitest";
import { ask1 } from "./support/ingress-clients.ts";
import { frameOf, headerBlock } from "./support/raw-http2.ts";
import { bearer, vmBehind } from "./support/vm-behind.ts";
import { connect } from "node:net";

const oneOf = (...texts: string[]): fc.Arbitrary<string> => fc.constantFrom(...texts);

const headers = fc.record(
  {
    ":method": oneOf("GET", "POST", "HEAD", "CONNECT", "OPTIONS", "PUT", "x"),
    ":scheme": oneOf("http", "https"),
    ":path": oneOf("/vm/web/80/", "/", "/a.B/C", "/pitwall.v1.VmService/GetVm", "*", "", "/vm/web/80/?pitwall-grant=x"),
    ":authority": oneOf("a", "web.vms.example.com", "x.y.vms.example.com", "", "a:b:c"),
    ":protocol": oneOf("websocket"),
    "content-type": oneOf("application/grpc", "application/grpc-web+proto", "application/grpc-web-text", "text/plain"),
    "content-length": oneOf("0", "3", "100000", "x"),
    "grpc-timeout": oneOf("1m", "0n", "99999999H", "x"),
    authorization: fc.constantFrom(bearer, "Bearer x", "Basic YTpi"),
    cookie: oneOf("__Host-pitwall-grant=x", "=", "a"),
    expect: oneOf("100-continue"),
    te: oneOf("trailers"),
    origin: oneOf("https://console.example.com", "null"),
    "sec-fetch-site": oneOf("same-site"),
    upgrade: oneOf("websocket"),
  },
  { requiredKeys: [":method", ":scheme", ":path", ":authority"] },
);
/** What a request ends with, if it does: as it should, or not. */
const endings = fc.oneof(
  fc.constant((on: number) => frameOf(0, 1, on)),
  fc.constant(() => Buffer.alloc(0)),
  fc.integer({ min: 0, max: 20 }).map((code) => (on: number) => frameOf(3, 0, on, Buffer.from([0, 0, 0, code]))),
  fc.tuple(fc.constantFrom(0, 1, 2, 4, 5, 6, 7, 8, 9, 12), fc.integer({ min: 0, max: 255 }), fc.uint8Array({ maxLength: 20 })).map(
    ([kind, flags, payload]) =>
      (on: number) =>
        frameOf(kind, flags, on, payload),
  ),
);
const requests = fc.array(
  fc.record({ all: headers, isWhole: fc.boolean(), body: fc.array(fc.uint8Array({ maxLength: 20 }), { maxLength: 3 }), end: endings }),
  { minLength: 1, maxLength: 5 },
);
const frames = requests.map((several) =>
  several.flatMap(({ all, isWhole, body, end }, at) => {
    const on = 2 * at + 1;
    const first = frameOf(1, isWhole ? 5 : 4, on, headerBlock(all));
    return isWhole ? [first] : [first, ...body.map((piece) => frameOf(0, 0, on, piece)), end(on)];
  }),
);

it("ends nothing but itself", { timeout: 120_000 }, async () => {
  const guest = createServer((request, response) => request.resume().once("end", () => response.end("x")));
  const { port } = await vmBehind(guest, { domain: "vms.example.com" });
  await fc.assert(
    fc.asyncProperty(frames, fc.boolean(), async (all, isAtOnce) => {
      const socket = connect(port, "127.0.0.1");
      socket.on("error", () => undefined);
      const closed = once(socket, "close");
      socket.write("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
      const whole = [frameOf(4, 0, 0), ...all];
      if (isAtOnce) socket.write(Buffer.concat(whole));
      else for (const frame of whole) await new Promise((resolve) => socket.write(frame, resolve));
      socket.resume().end();
      await closed;
    }),
    { numRuns: 400 },
  );
  expect((await ask1(port)).status).toBe(200);
});
