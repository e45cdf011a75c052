// Requests into VMs: what goes in, what comes out, and what a client or a VM that means harm makes of it.
import { once } from "node:events";
import { createServer, request, type IncomingHttpHeaders, type IncomingMessage, type OutgoingHttpHeaders } from "node:http";
import { constants } from "node:http2";
import { createServer as createTcpServer, type Server } from "node:net";
import { describe, expect, it, onTestFinished } from "vitest";
import { WebSocket, WebSocketServer } from "ws";
import { ask1, ask2, bodyOf, heardFrom, socketTo, textUntil } from "./support/ingress-clients.ts";
import { endHeaders, frameKind, headerBlock, RawHttp2 } from "./support/raw-http2.ts";
import { session2 } from "./support/upstream.ts";
import { bearer, vmBehind } from "./support/vm-behind.ts";

const mib = 2 ** 20;

/** What it was asked, as it was said. */
function recorder(): { server: Server; heard: string[] } {
  const heard: string[] = [];
  const server = createTcpServer((socket) => {
    let all = "";
    const at = heard.push("") - 1;
    socket
      .on("error", () => undefined)
      .on("data", (chunk: Buffer) => {
        all += chunk.toString("latin1");
        heard[at] = all;
        if (all.includes("\r\n\r\n")) socket.end("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
      });
  });
  return { server, heard };
}

describe("a request", () => {
  it("goes in with who came and how, and without what is the connection's, the gateway's or made up", async () => {
    let seen: IncomingHttpHeaders = {};
    const guest = createServer(({ headers, url }, response) => {
      seen = { ...headers, url };
      response.end();
    });
    const { port } = await vmBehind(guest);
    const madeUp = { "x-forwarded-for": "192.0.2.1", "x-forwarded-proto": "https", forwarded: "for=192.0.2.1", "x-real-ip": "192.0.2.1" };
    const ended = { connection: "close, x-hop, content-length, x-forwarded-for", "x-hop": "1", te: "trailers", cookie: "a=b" };
    const headers = { ...madeUp, "x-mine": "1", host: "gateway.example:8080" };
    const expected = {
      "x-mine": "1",
      url: "/a?b=c",
      host: "gateway.example:8080",
      "x-forwarded-for": "127.0.0.1",
      "x-forwarded-proto": "http",
      "x-forwarded-host": "gateway.example:8080",
      "x-forwarded-prefix": "/vm/web/80",
    };
    await using session = await session2(port);
    const { host, ...headers2 } = headers;
    for (const ask of [
      () => ask1(port, { path: "/vm/web/80/a?b=c", headers: { ...headers, ...ended } }),
      () => ask2(session, { path: "/vm/web/80/a?b=c", headers: { ...headers2, ":authority": host, cookie: "a=b" } }),
    ]) {
      expect((await ask()).status).toBe(200);
      expect(seen).toMatchObject(expected);
      for (const name of ["x-hop", "te", "cookie", "forwarded", "x-real-ip", "authorization"]) expect(seen).not.toHaveProperty(name);
    }
  });

  it.each(["GET", "POST", "PUT", "DELETE", "OPTIONS", "PROPFIND"])(
    "%s has its body, in chunks, of a length, and without any",
    async (method) => {
      const guest = createServer((incoming, response) => {
        void bodyOf(incoming).then((body) => response.end(`${incoming.method} ${body.toString()}`));
      });
      const { port } = await vmBehind(guest);
      await using session = await session2(port);
      const chunked = { "transfer-encoding": "chunked" };
      for (const [heard, body] of [
        [await ask1(port, { method }), ""],
        [await ask1(port, { method, headers: { "content-length": "4" }, body: "body" }), "body"],
        [await ask1(port, { method, headers: chunked, body: "body" }), "body"],
        [await ask2(session, { method }), ""],
        [await ask2(session, { method, body: "body" }), "body"],
        [await ask2(session, { method, headers: { "content-length": "4" }, body: "body" }), "body"],
      ] as const)
        expect([heard.status, heard.body.toString()]).toEqual([200, `${method} ${body}`]);
    },
  );

  it("streams both ways at the pace of whoever reads", async () => {
    let taken = 0;
    const guest = createServer((incoming, response) => {
      incoming.on("data", (chunk: Buffer) => (taken += chunk.length));
      incoming.once("end", () => response.end());
      if (incoming.url === "/slow") incoming.pause();
    });
    const { port } = await vmBehind(guest);
    const sent = request({ port, host: "127.0.0.1", method: "POST", path: "/vm/web/80/slow", headers: { authorization: bearer } });
    sent.on("error", () => undefined);
    onTestFinished(() => guest.closeAllConnections());
    let given = 0;
    const chunk = Buffer.alloc(mib);
    while (given < 64 * mib && (sent.write(chunk) || (await Promise.race([once(sent, "drain").then(() => true), quiet()])))) given += mib;
    expect(given).toBeLessThan(64 * mib);
    expect(taken).toBe(0);
    expect((await ask1(port, { method: "POST", body: Buffer.alloc(5 * mib) })).status).toBe(200);
    expect(taken).toBe(5 * mib);
  });

  it("whose client goes ends in the VM, also while its body is coming, where it does not look whole", async () => {
    const ends: string[] = [];
    const guest = createServer((incoming) => {
      incoming
        .on("error", () => undefined)
        .once("aborted", () => ends.push("aborted"))
        .once("end", () => ends.push("whole"));
      incoming.resume();
    });
    const { port } = await vmBehind(guest);
    const sent = request({ port, host: "127.0.0.1", method: "POST", path: "/vm/web/80/", headers: { authorization: bearer } });
    sent.on("error", () => undefined).write("half");
    await expect.poll(() => guest.listenerCount("request") > 0 && connections(guest)).toBe(1);
    sent.destroy();
    await expect.poll(() => ends).toEqual(["aborted"]);
    using session = new RawHttp2(port);
    const posts = { ":method": "POST", ":scheme": "http", ":path": "/vm/web/80/", ":authority": "a", authorization: bearer };
    session.say(frameKind.headers, endHeaders, 1, headerBlock(posts)).say(frameKind.data, 0, 1, Buffer.from("half"));
    await expect.poll(() => connections(guest)).toBe(1);
    session.say(frameKind.reset, 0, 1, Buffer.from([0, 0, 0, constants.NGHTTP2_CANCEL]));
    await expect.poll(() => ends).toEqual(["aborted", "aborted"]);
    await expect.poll(() => connections(guest)).toBe(0);
  });
});

const connections = (server: Server): Promise<number> => new Promise((resolve) => server.getConnections((_, count) => resolve(count)));
const quiet = (): Promise<false> => new Promise((resolve) => setTimeout(() => resolve(false), 500));

it("requests are counted by what became of them", async () => {
  const guest = createServer(({ url }, response) => (url === "/hangs" ? undefined : response.writeHead(url === "/made" ? 201 : 404).end()));
  const { port, metrics } = await vmBehind(guest);
  await using session = await session2(port);
  await ask1(port, { path: "/vm/web/80/made" });
  await ask2(session, { path: "/vm/web/80/made" });
  await ask1(port);
  await ask1(port, { headers: { authorization: "" } });
  const hanging = request({ port, host: "127.0.0.1", path: "/vm/web/80/hangs", headers: { authorization: bearer } });
  hanging.on("error", () => undefined).end();
  await expect.poll(() => connections(guest)).toBe(1);
  hanging.destroy();
  const counted = async (): Promise<string[]> => (await metrics.registry.metrics()).match(/^pitwall_gateway_vm_requests_total.*$/gm) ?? [];
  await expect
    .poll(async () => (await counted()).toSorted())
    .toEqual([
      'pitwall_gateway_vm_requests_total{status="201"} 2',
      'pitwall_gateway_vm_requests_total{status="401"} 1',
      'pitwall_gateway_vm_requests_total{status="404"} 1',
      'pitwall_gateway_vm_requests_total{status="none"} 1',
    ]);
});

describe("an answer below the gateway's address", () => {
  it("cannot speak to a browser in the gateway's name", async () => {
    const guest = createServer((_, response) => {
      const speaking = { "set-cookie": ["a=b", "c=d"], "access-control-allow-origin": "*", "clear-site-data": '"*"' };
      const more = { "service-worker-allowed": "/", "strict-transport-security": "max-age=1", "alt-svc": 'h3=":1"' };
      const own = {
        "content-security-policy": "default-src 'self'",
        "x-mine": "1",
        "keep-alive": "timeout=5",
        "content-type": "text/html",
      };
      response.writeHead(200, { ...speaking, ...more, ...own }).end("<script>alert(1)</script>");
    });
    const { port } = await vmBehind(guest);
    await using session = await session2(port);
    const origin = "https://console.example.com";
    for (const { headers } of [await ask1(port, { headers: { origin } }), await ask2(session, { headers: { origin } })]) {
      expect(headers).toMatchObject({
        "x-mine": "1",
        "content-security-policy": "default-src 'self', sandbox",
        "x-content-type-options": "nosniff",
        "access-control-allow-origin": origin,
      });
      for (const name of ["set-cookie", "clear-site-data", "service-worker-allowed", "strict-transport-security", "alt-svc"])
        expect(headers).not.toHaveProperty(name);
    }
    expect((await ask1(port)).headers["access-control-allow-origin"]).toBeUndefined();
  });

  it.each([
    ["is no HTTP", "SSH-2.0-OpenSSH_9.2\r\n", 502, "does not answer as HTTP/1.1 does"],
    ["has two lengths", "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab", 502, "does not answer"],
    ["has too many headers", `HTTP/1.1 200 OK\r\nx: ${"x".repeat(20_000)}\r\n\r\n`, 502, "does not answer"],
    ["does not come", "", 502, "closed the connection before it had answered"],
  ])("that %s is told so", async (_, bytes, status, words) => {
    const guest = createTcpServer((socket) => socket.on("error", () => undefined).end(bytes));
    const { port } = await vmBehind(guest);
    await using session = await session2(port);
    for (const heard of [await ask1(port), await ask2(session)]) {
      expect(heard.status).toBe(status);
      expect(heard.body.toString()).toContain(words);
    }
  });

  it("that is cut off does not look whole", async () => {
    const guest = createTcpServer((socket) => {
      socket
        .on("error", () => undefined)
        .once("data", () => {
          socket.write("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n", () => socket.destroy());
        });
    });
    const { port } = await vmBehind(guest);
    await expect(ask1(port)).rejects.toThrow(/aborted/);
    await using session = await session2(port);
    await expect(ask2(session)).rejects.toThrow(/NGHTTP2_INTERNAL_ERROR/);
  });

  it("that does not come in time, and one that stops, end", async () => {
    const guest = createServer((incoming, response) => {
      if (incoming.url === "/begins") response.write("half");
    });
    const { port } = await vmBehind(guest, { idleMs: 300 });
    const heard = await ask1(port);
    expect([heard.status, heard.body.toString()]).toEqual([
      504,
      "nothing came from this port of the VM, and nothing went there, for 0.3 s\n",
    ]);
    await expect(ask1(port, { path: "/vm/web/80/begins" })).rejects.toThrow(/aborted/);
  });

  it("where nothing listens is 502, without a token 401", async () => {
    const { port } = await vmBehind(createServer());
    const heard = await ask1(port, { path: "/vm/web/81/" });
    expect([heard.status, heard.body.toString()]).toEqual([502, "nothing listens there\n"]);
    expect((await ask1(port, { headers: { authorization: "" } })).status).toBe(401);
  });
});

describe("smuggling", () => {
  const head = `host: a\r\nauthorization: ${bearer}\r\n`;
  const smuggled = `GET /vm/web/80/smuggled HTTP/1.1\r\n${head}\r\n`;
  it.each([
    ["a length and chunks", `POST /vm/web/80/ HTTP/1.1\r\n${head}content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n`],
    ["two lengths", `POST /vm/web/80/ HTTP/1.1\r\n${head}content-length: 4\r\ncontent-length: 5\r\n\r\nbody`],
    ["chunks that are not last", `POST /vm/web/80/ HTTP/1.1\r\n${head}transfer-encoding: chunked, x\r\n\r\n0\r\n\r\n`],
    ["a space before a colon", `POST /vm/web/80/ HTTP/1.1\r\n${head}content-length : 4\r\n\r\nbody`],
    ["a bare line feed", `GET /vm/web/80/ HTTP/1.1\r\n${head}x: y\nz: w\r\n\r\n`],
    ["a folded header", `GET /vm/web/80/ HTTP/1.1\r\n${head}x: y\r\n z\r\n\r\n`],
    ["a length that is no number", `POST /vm/web/80/ HTTP/1.1\r\n${head}content-length: +4\r\n\r\nbody`],
  ])("with %s is refused, and no VM hears of it, nor of what follows", async (_, bytes) => {
    const { server, heard } = recorder();
    const { port } = await vmBehind(server);
    const socket = await socketTo(port);
    socket.write(`${bytes}${smuggled}`);
    const said = await textUntil(socket, /never/);
    expect(said).toMatch(/^HTTP\/1\.1 400 /);
    expect(said.match(/^HTTP/gm)).toHaveLength(1);
    expect(heard).toEqual([]);
  });

  it("with two hosts is refused, and ends its connection", async () => {
    const { server, heard } = recorder();
    const { port } = await vmBehind(server);
    const socket = await socketTo(port);
    socket.write(`GET /vm/web/80/ HTTP/1.1\r\n${head}host: b\r\n\r\n`);
    expect(await textUntil(socket, /never/)).toMatch(/^HTTP\/1\.1 400 (?:.+\r\n)*connection: close\r\n/i);
    expect(heard).toEqual([]);
  });

  it("with a chunk of a wrong length is cut off there, and no VM hears of what follows", async () => {
    const { server, heard } = recorder();
    const { port } = await vmBehind(server);
    const socket = await socketTo(port);
    socket.write(`POST /vm/web/80/ HTTP/1.1\r\n${head}transfer-encoding: chunked\r\n\r\nzz\r\nbody\r\n0\r\n\r\n${smuggled}`);
    expect(await textUntil(socket, /never/)).toMatch(/^HTTP\/1\.1 400 /);
    expect(heard.join("")).not.toMatch(/smuggled|body/);
  });

  it("by the body of a GET ends in that body", async () => {
    const { server, heard } = recorder();
    const { port } = await vmBehind(server);
    const inner = "GET /admin HTTP/1.1\r\nhost: a\r\n\r\n";
    await ask1(port, { headers: { "transfer-encoding": "chunked" }, body: inner });
    await using session = await session2(port);
    await ask2(session, { body: inner });
    expect(heard).toHaveLength(2);
    for (const one of heard) expect(one).toMatch(/^GET \/ HTTP\/1\.1\r\n(?:.+\r\n)*transfer-encoding: chunked\r\n/i);
  });

  it("by an upgrade that the VM does not make: what follows is the gateway's", async () => {
    const { server, heard } = recorder();
    const { port } = await vmBehind(server);
    const second = `GET /vm/web/80/second HTTP/1.1\r\n${head}\r\n`;
    const asked = (upgrade: string): string => `GET /vm/web/80/ HTTP/1.1\r\n${head}connection: Upgrade\r\nupgrade: ${upgrade}\r\n\r\n`;
    // Both at once, and the second once the first is answered.
    for (const before of ["", second]) {
      const socket = await socketTo(port);
      socket.write(`${asked("websocket")}${before}`);
      expect(await heardFrom(socket, /ok$/)).toMatch(/^HTTP\/1\.1 200 OK\r\n/);
      if (before === "") socket.write(second);
      expect(await textUntil(socket, /never/)).toBe(""); // and it is closed
    }
    expect(heard.map((one) => one.split("\r\n", 1)[0])).toEqual(["GET / HTTP/1.1", "GET / HTTP/1.1"]);
    heard.length = 0;
    for (const upgrade of ["h2c", "x"]) {
      const socket = await socketTo(port);
      socket.write(asked(upgrade));
      expect(await heardFrom(socket, /ok$/)).toMatch(/^HTTP\/1\.1 200 OK\r\n/);
      socket.write(second);
      expect(await textUntil(socket, /ok$/)).toMatch(/^HTTP\/1\.1 200 OK\r\n/);
    }
    // Each by a way of its own, which the gateway has opened for it.
    const lines = ["GET / HTTP/1.1", "GET /second HTTP/1.1"];
    expect(heard.map((one) => one.split("\r\n", 1)[0])).toEqual([...lines, ...lines]);
    expect(heard.join("")).not.toMatch(/authorization|upgrade/i);
  });
});

it("an upgrade behind a request that is not answered yet ends the connection, and nothing else", async () => {
  const guest = createServer(() => undefined); // it takes its time
  const { port } = await vmBehind(guest);
  const head = `host: a\r\nauthorization: ${bearer}\r\n`;
  const upgrade = "connection: upgrade\r\nupgrade: websocket\r\n";
  for (const path of ["/vm/web/80/", "/a.B/C"]) {
    const socket = await socketTo(port);
    socket.write(`GET /vm/web/80/ HTTP/1.1\r\n${head}\r\nGET ${path} HTTP/1.1\r\n${head}${upgrade}\r\n`);
    expect(await textUntil(socket, /HTTP/)).toBe("");
  }
  expect((await ask1(port, { path: "/vm/web/81/" })).status).toBe(502);
});

describe("a WebSocket", () => {
  async function echoing(): Promise<Server> {
    const guest = createServer();
    const sockets = new WebSocketServer({ server: guest });
    sockets.on("connection", (socket, { headers }) => {
      socket.send(JSON.stringify([headers["authorization"], headers["x-forwarded-prefix"], socket.protocol]));
      socket.on("message", (data, isBinary) => socket.send(data, { binary: isBinary }));
    });
    onTestFinished(() => void sockets.close());
    return guest;
  }

  it("goes through, both ways, with its subprotocol", async () => {
    const { port, metrics } = await vmBehind(await echoing());
    const socket = new WebSocket(`ws://127.0.0.1:${port}/vm/web/80/chat`, ["chat"], { headers: { authorization: bearer } });
    onTestFinished(() => socket.terminate());
    expect(JSON.parse(String((await once(socket, "message"))[0]))).toEqual([null, "/vm/web/80", "chat"]);
    const large = Buffer.alloc(3 * mib, 7);
    socket.send(large);
    expect((await once(socket, "message"))[0]).toEqual(large);
    socket.close(4321, "enough");
    expect((await once(socket, "close"))[0]).toBe(4321);
    await expect.poll(async () => (await metrics.registry.metrics()).includes("pitwall_gateway_tunnels 0")).toBe(true);
  });

  it("without a token, or beyond what may be at once, is refused", async () => {
    const guest = await echoing();
    const [{ port }, full] = [await vmBehind(guest), await vmBehind(guest, { limits: { calls: 1 } })];
    const open = (at: number, headers: OutgoingHttpHeaders): WebSocket => {
      const socket = new WebSocket(`ws://127.0.0.1:${at}/vm/web/80/`, { headers: headers as Record<string, string> }); // none is a list
      onTestFinished(() => socket.terminate());
      return socket.on("error", () => undefined);
    };
    const statusOf = async (socket: WebSocket): Promise<number | undefined> =>
      ((await once(socket, "unexpected-response")) as [unknown, IncomingMessage])[1].statusCode;
    expect(await statusOf(open(port, {}))).toBe(401);
    await once(open(full.port, { authorization: bearer }), "message");
    expect(await statusOf(open(full.port, { authorization: bearer }))).toBe(429);
  });
});

describe("TCP", () => {
  it("goes through as it is, half-close included", async () => {
    const guest = createTcpServer({ allowHalfOpen: true }, (socket) => {
      socket.on("error", () => undefined);
      void bodyOf(socket).then((body) => socket.end(body.toReversed()));
    });
    const { port } = await vmBehind(guest);
    const socket = await socketTo(port);
    socket.write(`GET /vm/web/80 HTTP/1.1\r\nhost: a\r\nauthorization: ${bearer}\r\nconnection: upgrade\r\nupgrade: pitwall-tcp\r\n\r\nab`);
    socket.end("cd");
    expect(await textUntil(socket, /dcba$/)).toMatch(/^HTTP\/1\.1 101 Switching Protocols\r\n(?:.+\r\n)*\r\ndcba$/);
  });
});
