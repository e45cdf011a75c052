// What ways into VMs may take of a gateway, at once and for how long, when their clients mean harm.
import { once } from "node:events";
import { createServer, type Server, type ServerResponse } from "node:http";
import { constants } from "node:http2";
import { connect, createServer as createTcpServer, type Server as TcpServer, type Socket } from "node:net";
import { PitwallError } from "@pitwall/runtime";
import { describe, expect, it, onTestFinished } from "vitest";
import { ask1, bodyOf, heardFrom, socketTo } from "./support/ingress-clients.ts";
import { session2 } from "./support/upstream.ts";
import { bearer, silentVm, vmBehind, type Decide, type VmBehind } from "./support/vm-behind.ts";

const domain = "vms.example.com";

async function gauge({ metrics }: Pick<VmBehind, "metrics">, name: string): Promise<number> {
  const [, value] = new RegExp(`^pitwall_gateway_${name} (\\d+)$`, "m").exec(await metrics.registry.metrics()) ?? [];
  return Number(value);
}

describe("a request for an upgrade that is refused leaves nothing behind", () => {
  const ways = [
    ["below /vm/", "/vm/web/80/", "gateway.example.com", 401],
    ["on a VM's own host", "/", `web.${domain}`, 403],
    ["on a host that is no VM's", "/", `a.b.${domain}`, 404],
    ["of a call", "/nothing", "gateway.example.com", 404],
  ] as const;
  const closed = (): never => {
    throw new PitwallError("denied", "not you");
  };

  it.each(ways)("%s, though a byte that nobody reads comes before its client goes", async (_, path, host, status) => {
    const web = await vmBehind(createServer(), { domain, decide: closed, limits: { calls: 1 } });
    const socket = await socketTo(web.port);
    socket.write(`GET ${path} HTTP/1.1\r\nhost: ${host}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n`);
    expect(await heardFrom(socket, /\r\n\r\n/)).toMatch(new RegExp(`^HTTP/1\\.1 ${status} `));
    socket.end("x");
    await expect.poll(() => gauge(web, "connections"), { timeout: 1_500 }).toBe(0);
    expect((await ask1(web.port, { headers: { authorization: "" } })).status).toBe(401); // and not 429
  });

  it.each(ways)("%s, though its client does not go", async (_, path, host) => {
    const web = await vmBehind(createServer(), { domain, decide: closed, limits: { calls: 1 } });
    const socket = connect({ port: web.port, host: "127.0.0.1", allowHalfOpen: true });
    onTestFinished(() => void socket.destroy());
    socket.on("error", () => undefined);
    socket.write(`GET ${path} HTTP/1.1\r\nhost: ${host}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n`);
    await once(socket.resume(), "end");
    await expect.poll(() => gauge(web, "connections"), { timeout: 4_000 }).toBe(0);
    expect((await ask1(web.port, { headers: { authorization: "" } })).status).toBe(401);
  });
});

it("requests of one principal are so many at once, and others' are none of them", async () => {
  const held: ServerResponse[] = [];
  const guest = createServer(({ url }, response) => void (url === "/held" ? held.push(response) : response.end()));
  const { port } = await vmBehind(guest, { perPrincipal: 2 });
  const other = `Bearer pwt_${"1".repeat(16)}_${"b".repeat(43)}`;
  const open = [0, 1].map(() => ask1(port, { path: "/vm/web/80/held" }));
  await expect.poll(() => held.length).toBe(2);
  const refused = await ask1(port);
  expect([refused.status, refused.body.toString()]).toEqual([429, expect.stringContaining("you have 2 calls under way")]);
  expect((await ask1(port, { headers: { authorization: other } })).status).toBe(200);
  held[0]?.end();
  await Promise.race(open);
  await expect.poll(async () => (await ask1(port)).status).toBe(200);
  held[1]?.end();
  await Promise.all(open);
});

describe("what is opened for a request whose client has gone", () => {
  /** How one begins, and how it goes; and how many connections are left. */
  const ends: readonly (readonly [string, (port: number, path: string) => Promise<() => void>, number])[] = [
    [
      "HTTP/1.1",
      async (port, path) => {
        const socket = await socketTo(port);
        socket.write(`GET ${path} HTTP/1.1\r\nhost: a\r\nauthorization: ${bearer}\r\n\r\n`);
        return () => socket.destroy();
      },
      0,
    ],
    [
      "HTTP/2",
      async (port, path) => {
        const session = await session2(port);
        onTestFinished(() => session.destroy());
        const stream = session.request({ ":path": path, authorization: bearer }).on("error", () => undefined);
        return () => stream.close(constants.NGHTTP2_CANCEL);
      },
      1,
    ],
    [
      "an upgrade",
      async (port, path) => {
        const socket = await socketTo(port);
        const upgrade = "connection: upgrade\r\nupgrade: websocket\r\n"; // of TCP, no more bytes need not mean that nobody is there
        socket.write(`GET ${path} HTTP/1.1\r\nhost: a\r\nauthorization: ${bearer}\r\n${upgrade}\r\n`);
        return () => socket.destroy();
      },
      0,
    ],
  ];

  it.each(ends)("ends with it, while the controller is asked: %s", async (_, begin) => {
    const asked: (AbortSignal | undefined)[] = [];
    const decide: Decide = async (_request, signal) => {
      if (asked.push(signal) > 1) return {};
      await new Promise((_resolve, reject) => signal?.addEventListener("abort", () => reject(new Error("cancelled"))));
      return {};
    };
    const { port } = await vmBehind(answering(), { decide, limits: { calls: 1 }, perPrincipal: 1 });
    const go = await begin(port, "/vm/web/80/");
    await expect.poll(() => asked.length).toBe(1);
    go();
    await expect.poll(() => asked[0]?.aborted).toBe(true);
    await expect.poll(async () => (await ask1(port)).status).toBe(200);
  });

  it.each(ends)("ends with it, while its node is waited for: %s", async (_, begin) => {
    const asked: string[] = [];
    const decide: Decide = ({ vm }) => {
      asked.push(vm);
      return {};
    };
    const web = await vmBehind(answering(), { decide, limits: { calls: 1 }, perPrincipal: 1 });
    const go = await begin(web.port, `/vm/${silentVm}/80/`);
    await expect.poll(() => asked).toEqual([silentVm]);
    go();
    await expect.poll(async () => (await ask1(web.port)).status, { timeout: 3_000 }).toBe(200);
  });

  it.each(ends)("counts for as long as it goes on: %s", async (_, begin, leaves) => {
    for (const limit of [{ limits: { calls: 1 } }, { perPrincipal: 1 }]) {
      let asked = 0;
      const { promise, resolve } = Promise.withResolvers<void>();
      const decide: Decide = async () => {
        if (++asked === 1) await promise; // whatever is said to it
        return {};
      };
      const web = await vmBehind(answering(), { decide, ...limit });
      const go = await begin(web.port, "/vm/web/80/");
      await expect.poll(() => asked).toBe(1);
      go();
      await expect.poll(() => gauge(web, "connections")).toBe(leaves);
      for (let at = 0; at < 3; at++) expect((await ask1(web.port)).status).toBe(429);
      resolve();
      await expect.poll(async () => (await ask1(web.port)).status).toBe(200);
      expect(await gauge(web, "tunnels")).toBe(0);
    }
  });
});

describe("a public port", () => {
  const own = { host: `web.${domain}`, authorization: "" };
  const quiet = (): TcpServer => createTcpServer((socket) => void socket.on("error", () => undefined).resume());
  async function tcpTo({ port }: VmBehind, more = ""): Promise<Socket> {
    const socket = await socketTo(port);
    socket.write(`GET / HTTP/1.1\r\nhost: ${own.host}\r\n${more}connection: upgrade\r\nupgrade: pitwall-tcp\r\n\r\n`);
    expect(await heardFrom(socket, /\r\n\r\n/)).toMatch(/^HTTP\/1\.1 101 /);
    return socket;
  }

  it("is not closed to others by one who takes all that somebody may", async () => {
    const guest = createServer((_, response) => response.end());
    const web = await vmBehind(guest, { domain, perPrincipal: 1 });
    await tcpTo(web);
    expect((await ask1(web.port, { path: "/", headers: own })).status).toBe(429);
    expect((await ask1(web.port, { path: "/", headers: own, from: "127.0.0.2" })).status).toBe(200);
  });

  it.each([
    ["nobody in particular", "", true],
    ["who has a grant", "cookie: __Host-pitwall-grant=pwg_x\r\n", true],
    ["who has a token", `authorization: ${bearer}\r\n`, false],
  ])("by TCP is, without a byte either way, for a time or for good: %s", async (_, more, ends) => {
    const idleMs = 300;
    const web = await vmBehind(quiet(), { domain, idleMs });
    const socket = await tcpTo(web, more);
    let isClosed = false;
    socket.once("close", () => (isClosed = true));
    const begun = performance.now();
    await expect.poll(() => isClosed || performance.now() - begun > 5 * idleMs, { timeout: 5_000 }).toBe(true);
    expect(isClosed).toBe(ends);
  });

  it("that has answered waits for no body that does not end: the client is told to stop", async () => {
    const guest = createServer((request, response) => void response.end(request.url));
    const web = await vmBehind(guest, { domain, limits: { calls: 1 }, perPrincipal: 1 });
    await using session = await session2(web.port);
    const stream = session.request({ ":method": "POST", ":path": "/at-once", ":authority": own.host }, { endStream: false });
    stream.write("half");
    const ended = once(stream, "close");
    expect((await bodyOf(stream)).toString()).toBe("/at-once");
    await ended;
    expect(stream.rstCode).toBe(constants.NGHTTP2_NO_ERROR);
    await expect.poll(async () => (await ask1(web.port, { path: "/", headers: own })).status).toBe(200);
  });
});

function answering(): Server {
  return createServer((_, response) => response.end());
}
