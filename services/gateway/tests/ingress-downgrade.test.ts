// Requests of HTTP/2 that would be two of HTTP/1.1, or another one, if they were written down as they are: none reaches a VM so.
import { createServer as createTcpServer } from "node:net";
import { expect, it } from "vitest";
import { endHeaders, endStream, frameKind, headerBlock, RawHttp2 } from "./support/raw-http2.ts";
import { ask1 } from "./support/ingress-clients.ts";
import { bearer, vmBehind } from "./support/vm-behind.ts";

const usual = { ":method": "GET", ":scheme": "http", ":path": "/vm/web/80/", ":authority": "a", authorization: bearer };
const second = "GET /admin HTTP/1.1\r\nhost: a\r\n\r\n";

interface Case {
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: string;
}

const cases: Readonly<Record<string, Case>> = {
  "chunks, which HTTP/2 does not have": { headers: { ":method": "POST", "transfer-encoding": "chunked" }, body: `0\r\n\r\n${second}` },
  "a length that is too short": { headers: { ":method": "POST", "content-length": "4" }, body: `body${second}` },
  "a length that is too long": { headers: { ":method": "POST", "content-length": "400" }, body: "body" },
  "a length of a GET": { headers: { "content-length": "0" }, body: second },
  "a length that is no number": { headers: { ":method": "POST", "content-length": "4, 4" }, body: `body${second}` },
  "a length with a sign": { headers: { ":method": "POST", "content-length": "+4" }, body: `body${second}` },
  "a body and no length": { headers: { ":method": "POST" }, body: second },
  "a body of a GET": { headers: {}, body: second },
  "a body of a HEAD": { headers: { ":method": "HEAD" }, body: second },
  "a body of a DELETE": { headers: { ":method": "DELETE" }, body: second },
  "lines in a header": { headers: { "x-a": `1\r\nx-b: 2\r\n\r\n${second}` } },
  "a line feed in a header": { headers: { "x-a": "1\nx-b: 2" } },
  "a carriage return in a header": { headers: { "x-a": "1\rx-b: 2" } },
  "a zero byte in a header": { headers: { "x-a": "1\0" } },
  "lines in a header's name": { headers: { "x-a: 1\r\nx-b": "2" } },
  "a colon in a header's name": { headers: { "transfer-encoding: chunked\r\nx": "2" } },
  "a space in a header's name": { headers: { "transfer-encoding ": "chunked" } },
  "a header's name in capitals": { headers: { "Transfer-Encoding": "chunked" } },
  "an empty name": { headers: { "": "x" } },
  "lines in the path": { headers: { ":path": `/vm/web/80/ HTTP/1.1\r\nx-b: 2\r\n\r\n${second}` } },
  "a space in the path": { headers: { ":path": "/vm/web/80/a HTTP/1.1" } },
  "a tab in the path": { headers: { ":path": "/vm/web/80/a\tb" } },
  "no ASCII in the path": { headers: { ":path": "/vm/web/80/\u0130\u010d" } },
  "another request as the method": { headers: { ":method": `GET /admin HTTP/1.1\r\nhost: a\r\n\r\nGET` } },
  "a space in the method": { headers: { ":method": "GET /admin" } },
  "lines in the authority": { headers: { ":authority": "a\r\nx-b: 2" } },
  "a host that is not the authority": { headers: { host: "b" } },
  "a connection header": { headers: { connection: "keep-alive, x-a", "x-a": "1" } },
  "an upgrade": { headers: { upgrade: "websocket", connection: "upgrade" } },
  "an upgrade to h2c": { headers: { "http2-settings": "AAMAAABkAAQCAAAAAAIAAAAA", upgrade: "h2c" } },
  "trailers that it is asked for": { headers: { te: "trailers, chunked" } },
  "a path that is none": { headers: { ":path": "*" } },
  "an absolute path": { headers: { ":path": "http://b/vm/web/80/" } },
};

it.each(Object.entries(cases))("%s", async (_, { headers, body }) => {
  const heard: string[] = [];
  const guest = createTcpServer((socket) => {
    let all = "";
    const at = heard.push("") - 1;
    socket
      .on("error", () => undefined)
      .on("data", (chunk: Buffer) => {
        heard[at] = all += chunk.toString("latin1");
        if (/^0\r\n\r\n$/m.test(all) || (all.endsWith("\r\n\r\n") && !/^transfer-encoding/im.test(all)))
          socket.end("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
      });
  });
  const { port } = await vmBehind(guest, { idleMs: 1_000 });
  using client = new RawHttp2(port);
  client.say(frameKind.headers, endHeaders | (body === undefined ? endStream : 0), 1, headerBlock({ ...usual, ...headers }));
  if (body !== undefined) client.say(frameKind.data, endStream, 1, Buffer.from(body));
  // An answer of whatever kind, or a reset, or the end of the connection.
  await expect
    .poll(() => [frameKind.headers, frameKind.reset, frameKind.goaway].some((kind) => client.seen.has(kind)) || client.socket.destroyed, {
      timeout: 5_000,
    })
    .toBe(true);
  expect(heard.length).toBeLessThanOrEqual(1);
  const [said = ""] = heard;
  const [head = "", rest = ""] = said.split(/\r\n\r\n(.*)/s);
  // One request line, of one request, whose body is framed; nothing of the headers has become another one.
  expect(head.split("\r\n").filter((line) => line.endsWith(" HTTP/1.1")).length).toBeLessThanOrEqual(1);
  expect(head).not.toMatch(/^(?:x-b|upgrade|http2-settings|te|connection: keep-alive, x-a):?/im);
  expect(head).not.toMatch(/^host: b$/im);
  if (rest !== "") expect(head).toMatch(/^(?:transfer-encoding: chunked|content-length: \d+)$/im);
  if (rest.includes(second)) expect(head).toMatch(/^transfer-encoding: chunked$/im);
  // And the next client is served.
  if (said !== "") expect((await ask1(port)).status).toBe(200);
});
