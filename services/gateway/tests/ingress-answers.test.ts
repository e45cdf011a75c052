// VMs that mean harm: answers that are none, or that would be read as others by whoever reads them after the gateway. Somebody else's request is
// served after each.
import { once } from "node:events";
import { createServer as createTcpServer } from "node:net";
import { describe, expect, it } from "vitest";
import { ask1, ask2, socketTo, textUntil } from "./support/ingress-clients.ts";
import { session2 } from "./support/upstream.ts";
import { bearer, vmBehind } from "./support/vm-behind.ts";

const good = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ngood";

/** Port 80 of a VM that answers so, but to requests of `/good`. */
async function answering(answer: string): Promise<number> {
  const guest = createTcpServer((socket) => {
    let all = "";
    socket
      .on("error", () => undefined)
      .on("data", (chunk: Buffer) => {
        all += chunk.toString("latin1");
        if (all.includes("\r\n\r\n")) socket.end(Buffer.from(all.startsWith("GET /good") ? good : answer, "latin1"));
      });
  });
  return (await vmBehind(guest, { idleMs: 1_000 })).port;
}

async function isServed(port: number): Promise<void> {
  expect((await ask1(port, { path: "/vm/web/80/good" })).body.toString()).toBe("good");
}

it("an answer that depends on something of its own depends on the page's origin all the same", async () => {
  const port = await answering("HTTP/1.1 200 OK\r\nvary: accept-language\r\nvary: cookie\r\ncontent-length: 2\r\n\r\nok");
  expect((await ask1(port)).headers["vary"]).toBe("origin, accept-language, cookie");
  await using session = await session2(port);
  expect((await ask2(session)).headers["vary"]).toBe("origin, accept-language, cookie");
});

describe("an answer", () => {
  it.each([
    ["with status 000", "HTTP/1.1 000 X\r\ncontent-length: 2\r\n\r\nok"],
    ["with status 099", "HTTP/1.1 099 X\r\ncontent-length: 2\r\n\r\nok"],
    ["with status 1000", "HTTP/1.1 1000 X\r\ncontent-length: 2\r\n\r\nok"],
    ["with a status that is no number", "HTTP/1.1 2x0 X\r\ncontent-length: 2\r\n\r\nok"],
    ["that switches protocols unasked", "HTTP/1.1 101 X\r\nupgrade: x\r\nconnection: upgrade\r\n\r\nok"],
    ["of nothing but hints", `${"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n".repeat(2_000)}`],
    ["with a length and chunks", "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n4\r\nabcd\r\n0\r\n\r\n"],
    ["with chunks and a length", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 1\r\n\r\n4\r\nabcd\r\n0\r\n\r\n"],
    ["with a length that is no number", "HTTP/1.1 200 OK\r\ncontent-length: +2\r\n\r\nok"],
    ["with a bare line feed in a header", "HTTP/1.1 200 OK\r\nx: a\nset-cookie: b\r\n\r\n"],
    ["with a zero byte in a header", "HTTP/1.1 200 OK\r\nx: a\0b\r\n\r\n"],
    ["with a header without a name", "HTTP/1.1 200 OK\r\n: x\r\n\r\n"],
    ["with 204 and a body", "HTTP/1.1 204 X\r\ncontent-length: 5\r\n\r\nhello"],
    ["of a version that is not there", "HTTP/3.7 200 OK\r\ncontent-length: 2\r\n\r\nok"],
  ])("%s ends as 502, whatever HTTP the client speaks", async (_, answer) => {
    const port = await answering(answer);
    expect((await ask1(port)).status).toBe(502);
    await using session = await session2(port);
    expect((await ask2(session)).status).toBe(502);
    await isServed(port);
  });

  it.each([
    ["with 204 and a length", "HTTP/1.1 204 X\r\ncontent-length: 5\r\n\r\n", 204],
    ["with 304 and a length", "HTTP/1.1 304 X\r\ncontent-length: 5\r\n\r\n", 304],
    ["with more than its length", `HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok${good}`, 200],
    ["with another one behind it", `HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n${good}`, 200],
    ["with a hint before it", "HTTP/1.1 103 X\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", 200],
    ["with a header that names what objects have", "HTTP/1.1 200 OK\r\n__proto__: x\r\nconstructor: y\r\ncontent-length: 2\r\n\r\nok", 200],
    [
      "with headers of connections that HTTP/2 does not have",
      "HTTP/1.1 200 OK\r\nkeep-alive: x\r\nproxy-connection: x\r\nte: x\r\nhttp2-settings: x\r\ncontent-length: 2\r\n\r\nok",
      200,
    ],
  ])("%s leaves nothing behind on the client's connection", async (_, answer, status) => {
    const port = await answering(answer);
    const socket = await socketTo(port);
    const headers = `host: a\r\nauthorization: ${bearer}\r\n`;
    // The second one is answered with the second answer, and not with what is left of the first.
    socket.write(`GET /vm/web/80/ HTTP/1.1\r\n${headers}\r\nGET /vm/web/80/good HTTP/1.1\r\n${headers}connection: close\r\n\r\n`);
    const said = await textUntil(socket, /never/);
    expect([...said.matchAll(/HTTP\/1\.1 (\d+)/g)].map(([, code]) => Number(code))).toEqual([status, 200]);
    expect(said).toMatch(/\r\n\r\ngood$/);
    if (status === 204) expect(said.split("HTTP/1.1 200")[0]).not.toMatch(/content-length/i);
    await using session = await session2(port);
    expect((await ask2(session)).status).toBe(status);
    await isServed(port);
  });

  it("that never ends its headers ends as 502 or 504, and costs little", async () => {
    const guest = createTcpServer((socket) => {
      socket.on("error", () => undefined).write("HTTP/1.1 200 OK\r\nx: ");
      const more = setInterval(() => socket.write("x".repeat(8_192)), 20);
      socket.once("close", () => clearInterval(more));
    });
    const { port } = await vmBehind(guest, { idleMs: 1_000 });
    expect([502, 504]).toContain((await ask1(port)).status);
  });
});

it("a VM that upgrades to something else than what was asked for is no way around the gateway", async () => {
  const port = await answering("HTTP/1.1 101 X\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\nraw");
  const socket = await socketTo(port);
  socket.write(`GET /vm/web/80/ HTTP/1.1\r\nhost: a\r\nauthorization: ${bearer}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n`);
  const [said] = (await once(socket.setEncoding("latin1"), "data")) as [string];
  expect(said).toMatch(/^HTTP\/1\.1 502 /);
  await isServed(port);
});
