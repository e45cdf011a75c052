// Guests that mean harm: whatever frames of HTTP/2 one sends in place of its API's answer, the call ends, and so does nothing else.
import { createServer, type Server } from "node:net";
import fc from "fast-check";
import { expect, it, onTestFinished } from "vitest";
import { frameOf, headerBlock } from "./support/raw-http2.ts";
import { session2 } from "./support/upstream.ts";
import { bearer, vmBehind } from "./support/vm-behind.ts";

const oneOf = (...texts: string[]): fc.Arbitrary<string> => fc.constantFrom(...texts);

const headers = fc.record(
  {
    ":status": oneOf("200", "200", "200", "000", "99", "101", "103", "204", "503", "1000", "x", ""),
    "content-type": oneOf("application/grpc", "application/grpc+proto", "text/html"),
    "content-length": oneOf("0", "5", "100000", "x"),
    "grpc-status": oneOf("0", "7", "-1", "x", "99999999999999999999"),
    "grpc-message": oneOf("fine", "%zz", "%0a"),
    connection: oneOf("close"),
    "transfer-encoding": oneOf("chunked"),
    "http2-settings": oneOf("x"),
    te: oneOf("x"),
    "set-cookie": oneOf("a=b"),
    "X-Upper": oneOf("x"),
    "": oneOf("x"),
    ":path": oneOf("/"),
    trailer: oneOf("x"),
  },
  { requiredKeys: [":status"] },
);
const trailers = fc.record(
  {
    "grpc-status": oneOf("0", "5", "x"),
    "grpc-message": oneOf("m"),
    ":status": oneOf("200"),
    connection: oneOf("x"),
    "http2-settings": oneOf("y"),
  },
  { requiredKeys: [] },
);
const stray = fc
  .tuple(
    fc.constantFrom(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 12),
    fc.integer({ min: 0, max: 255 }),
    fc.constantFrom(0, 1, 2, 3),
    fc.uint8Array({ maxLength: 20 }),
  )
  .map(([kind, flags, on, payload]) => frameOf(kind, flags, on, payload));
const frames = fc.array(
  fc.oneof(
    { weight: 4, arbitrary: fc.tuple(headers, fc.constantFrom(4, 5)).map(([all, flags]) => frameOf(1, flags, 1, headerBlock(all))) },
    { weight: 3, arbitrary: fc.uint8Array({ maxLength: 20 }).map((data) => frameOf(0, 0, 1, data)) },
    { weight: 2, arbitrary: trailers.map((all) => frameOf(1, 5, 1, headerBlock(all))) },
    { weight: 1, arbitrary: fc.integer({ min: 0, max: 20 }).map((code) => frameOf(3, 0, 1, Buffer.from([0, 0, 0, code]))) },
    { weight: 1, arbitrary: stray },
  ),
  { maxLength: 8 },
);

it("the call ends, whatever a guest says", { timeout: 120_000 }, async () => {
  let answer = Buffer.alloc(0);
  const guest: Server = createServer((socket) => {
    let read = 0;
    socket
      .on("error", () => undefined)
      .on("data", (chunk: Buffer) => {
        // Once the request has begun.
        if (read <= 60 && read + chunk.length > 60) socket.end(answer);
        read += chunk.length;
      });
  });
  const { port } = await vmBehind(guest);
  const session = await session2(port);
  onTestFinished(() => void session.destroy());
  const kinds = fc.constantFrom("application/grpc", "application/grpc-web+proto", "application/grpc-web-text");
  await fc.assert(
    fc.asyncProperty(frames, kinds, async (all, type) => {
      answer = Buffer.concat([frameOf(4, 0, 0), ...all]);
      const path = "/pitwall.v1.GuestService/StatFile";
      const call = session.request({ ":method": "POST", ":path": path, "content-type": type, authorization: bearer, "pitwall-vm": "web" });
      call.on("error", () => undefined).end();
      await new Promise<void>((resolve) => call.resume().once("close", () => resolve()));
      expect(session.destroyed).toBe(false);
    }),
    { numRuns: 300 },
  );
});
