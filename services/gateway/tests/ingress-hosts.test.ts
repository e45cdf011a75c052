// Host names of VMs below the ingress domain: who is let in by what, what a VM may say on a host of its own, and that the gateway's own API is
// not there.
import { once } from "node:events";
import { connect as connectHttp2 } from "node:http2";
import { request } from "node:https";
import type { LookupFunction } from "node:net";
import { createServer, type IncomingHttpHeaders, type IncomingMessage, type Server } from "node:http";
import { issueIngressGrant } from "@pitwall/auth";
import type { Caller } from "@pitwall/proto/pitwall/v1/access.ts";
import { ClientError, Status } from "nice-grpc";
import { describe, expect, it, onTestFinished } from "vitest";
import { WebSocket, WebSocketServer } from "ws";
import { ask1, ask2, bodyOf, socketTo, textUntil } from "./support/ingress-clients.ts";
import { session2 } from "./support/upstream.ts";
import { bearer, vmBehind, type Decide, type VmBehind } from "./support/vm-behind.ts";

const domain = "vms.example.com";
const host = `web.${domain}:8080`;
const key = Buffer.alloc(32, 1);
const grantOf = (expiresAt: number): string =>
  issueIngressGrant(key, { vmId: "0b8f7a52-9d1e-4c3a-8f60-1d2e3f4a5b6c", port: 80, subject: "ada", expiresAt });
const inAnHour = Math.floor(Date.now() / 1_000) + 3_600;
const grant = grantOf(inAnHour);
const cookie = `__Host-pitwall-grant=${grant}`;

/** A controller that lets nobody in who shows nothing, and only this grant. */
function decide(seen: Caller[], isPublic: boolean): Decide {
  return ({ caller, host: named }) => {
    if (caller) seen.push(caller);
    const { credential } = caller ?? {};
    if (named !== "web") throw new ClientError("OpenTunnel", Status.NOT_FOUND, `there is no VM "${named}"`);
    if (credential?.$case === "anonymous" && !isPublic) throw new ClientError("OpenTunnel", Status.UNAUTHENTICATED, "show something");
    if (credential?.$case === "ingressGrant" && credential.value !== grant)
      throw new ClientError("OpenTunnel", Status.UNAUTHENTICATED, "no");
    return {};
  };
}

interface Web extends VmBehind {
  /** As the VM had them. */
  readonly heard: { url: string | undefined; headers: IncomingHttpHeaders }[];
  readonly callers: Caller[];
}

async function start({
  isPublic = false,
  answers = {},
}: { isPublic?: boolean; answers?: Record<string, string | string[]> } = {}): Promise<Web> {
  const heard: Web["heard"] = [];
  const callers: Caller[] = [];
  const guest = createServer(({ url, headers }, response) => {
    heard.push({ url, headers });
    response.writeHead(200, answers).end("page");
  });
  return { ...(await vmBehind(guest, { domain, decide: decide(callers, isPublic) })), heard, callers };
}

describe("a host name of a VM", () => {
  it("leads to the VM with a bearer token, which is not shown to it, and its own cookies are", async () => {
    const { port, heard } = await start();
    await using session = await session2(port);
    const path = "/a?b=c";
    expect(await ask1(port, { path, headers: { host, cookie: "a=b", authorization: bearer } })).toMatchObject({ status: 200 });
    expect(await ask2(session, { path, headers: { ":authority": host, cookie: "a=b", authorization: bearer } })).toMatchObject({
      status: 200,
    });
    for (const { url, headers } of heard) {
      expect(url).toBe(path);
      expect(headers).toMatchObject({ host, cookie: "a=b", "x-forwarded-host": host, "x-forwarded-proto": "http" });
      expect(headers).not.toHaveProperty("authorization");
      expect(headers).not.toHaveProperty("x-forwarded-prefix");
    }
    expect(heard).toHaveLength(2);
  });

  it("leads nobody there who shows nothing, unless the port is public", async () => {
    const [closed, open] = [await start(), await start({ isPublic: true })];
    const shown = { host, authorization: "" };
    expect((await ask1(closed.port, { path: "/", headers: shown })).status).toBe(401);
    expect(closed.heard).toEqual([]);
    expect((await ask1(open.port, { path: "/", headers: shown })).status).toBe(200);
    expect(open.callers).toEqual([{ credential: { $case: "anonymous", value: {} } }]);
  });

  it("of nobody, and of none that could be a VM's, is nothing, and the gateway's own pages are not there either", async () => {
    const { port } = await start();
    await using session = await session2(port);
    expect((await ask1(port, { path: "/", headers: { host: `other.${domain}` } })).status).toBe(404);
    for (const name of [`a.web.${domain}`, `web.${domain}.`, `-.${domain}`])
      for (const path of ["/", "/healthz", "/.well-known/pitwall", "/vm/web/80/"]) {
        const said = [await ask1(port, { path, headers: { host: name } }), await ask2(session, { path, headers: { ":authority": name } })];
        expect(said.map(({ status, body }) => [status, body.toString()])).toEqual([
          [404, "nothing is here\n"],
          [404, "nothing is here\n"],
        ]);
      }
    expect((await ask1(port, { path: "/healthz", headers: { host: domain } })).body.toString()).toBe("ok\n");
  });

  it("has the VM's own pages where the gateway has its own, calls of the API too", async () => {
    const { port, heard } = await start();
    const calls = { "content-type": "application/grpc-web+proto" };
    for (const [method, path, headers] of [
      ["GET", "/healthz", {}],
      ["GET", "/.well-known/pitwall", {}],
      ["GET", "/vm/web/80/", {}],
      ["POST", "/pitwall.v1.VmService/GetVm", calls],
      ["OPTIONS", "/x", { origin: "https://console.example.com" }],
    ] as const) {
      const said = await ask1(port, { method, path, headers: { host, ...headers } });
      expect([said.status, said.body.toString(), heard.at(-1)?.url]).toEqual([200, "page", path]);
      expect(said.headers).not.toHaveProperty("access-control-allow-origin");
    }
  });

  it("is told apart from the authority of an absolute address", async () => {
    const { port, heard } = await start({ isPublic: true });
    const socket = await socketTo(port);
    socket.write(`GET http://gateway.example.com/healthz HTTP/1.1\r\nhost: ${host}\r\n\r\n`);
    expect(await textUntil(socket, /here\n/)).toMatch(/^HTTP\/1\.1 404 /);
    expect(heard).toEqual([]);
  });
});

describe("what a VM says on its own host", () => {
  it("is what it likes, but for its own host alone", async () => {
    const answers = {
      "set-cookie": ["a=b; Domain=vms.example.com; Path=/", "__Host-pitwall-grant=x; Path=/; Secure"],
      "access-control-allow-origin": "*",
      "alt-svc": 'h3=":1"',
      "content-security-policy": "default-src 'self'",
    };
    const { port } = await start({ answers });
    await using session = await session2(port);
    for (const { headers } of [
      await ask1(port, { path: "/", headers: { host } }),
      await ask2(session, { path: "/", headers: { ":authority": host } }),
    ]) {
      expect(headers).toMatchObject({
        "set-cookie": ["a=b; Path=/"],
        "access-control-allow-origin": "*",
        "content-security-policy": "default-src 'self'",
      });
      expect(headers).not.toHaveProperty("alt-svc");
    }
  });

  it.each([
    [undefined, "private"],
    ["public, max-age=60, s-maxage=600", "max-age=60, private"],
    ["no-store", "no-store, private"],
    ['private="x", max-age=1', "max-age=1, private"],
  ])("is kept by no cache for others, where somebody was let in: %s", async (said, kept) => {
    const { port } = await start({ isPublic: true, answers: said === undefined ? {} : { "cache-control": said } });
    const of = async (headers: Record<string, string>): Promise<string | undefined> =>
      (await ask1(port, { path: "/", headers: { host, ...headers } })).headers["cache-control"];
    expect(await of({ authorization: "", cookie })).toBe(kept);
    expect(await of({})).toBe(kept);
    expect(await of({ authorization: "" })).toBe(said);
  });

  it("to somebody with credentials of its own is not the gateway's business", async () => {
    const { port, heard } = await start({ isPublic: true });
    expect((await ask1(port, { path: "/", headers: { host, authorization: "Basic YTpi" } })).status).toBe(200);
    expect(heard.at(-1)?.headers.authorization).toBe("Basic YTpi");
    expect((await ask1(port, { path: "/", headers: { host, authorization: "Bearer pwt_damaged" } })).status).toBe(401);
  });
});

describe("an address with a grant", () => {
  const path = `/a?b=c&pitwall-grant=${grant}`;

  it("puts it where the browser keeps it for this host alone, and is forgotten; from then on the cookie lets in", async () => {
    const { port, heard } = await start();
    const said = await ask1(port, { path, headers: { host, authorization: "" } });
    expect(said.status).toBe(303);
    expect(said.headers).toMatchObject({ location: "/a?b=c", "referrer-policy": "no-referrer", "cache-control": "no-store" });
    const [set = ""] = said.headers["set-cookie"] ?? [];
    expect(set).toMatch(new RegExp(`^${cookie}; Path=/; Max-Age=3(?:600|5\\d\\d); Secure; HttpOnly; SameSite=Lax$`));
    expect(set).not.toMatch(/domain/i);
    expect(heard).toEqual([]);
    const headers = { host, authorization: "", cookie: `a=b; ${set.split(";")[0]}; c=d` };
    expect((await ask1(port, { path: "/a?b=c", headers })).status).toBe(200);
    expect(heard[0]?.headers.cookie).toBe("a=b; c=d");
    expect(JSON.stringify(heard)).not.toContain(grant);
  });

  it.each([
    ["that is another's", grantOf(inAnHour + 1)],
    ["that is none", "pwg_AAAA;Domain=evil.example"],
    ["that is empty", ""],
  ])("%s lets nobody in, and sets nothing", async (_, wrong) => {
    const { port } = await start();
    const said = await ask1(port, { path: `/?pitwall-grant=${wrong}`, headers: { host, authorization: "" } });
    expect([said.status, said.headers["set-cookie"]]).toEqual([403, undefined]);
  });

  it("is of use to the pages of its own host alone", async () => {
    const { port, heard } = await start();
    const of = async (more: Record<string, string>, method = "GET"): Promise<number> =>
      (await ask1(port, { method, path: "/", headers: { host, authorization: "", cookie, ...more } })).status;
    expect(await of({ origin: `http://${host}` }, "POST")).toBe(200);
    expect(await of({ origin: `https://${host}` }, "POST")).toBe(200); // something before the gateway may speak TLS
    expect(await of({ origin: `https://evil.${domain}` }, "POST")).toBe(401);
    expect(await of({ "sec-fetch-site": "same-site", "sec-fetch-mode": "no-cors" })).toBe(401);
    expect(await of({ "sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document" })).toBe(200);
    expect(heard).toHaveLength(3);
  });

  it("is none in the body of a form, nor below the gateway's own address", async () => {
    const { port, heard } = await start();
    expect((await ask1(port, { method: "POST", path, headers: { host, authorization: "" }, body: "x" })).status).toBe(401);
    expect((await ask1(port, { path: `/vm/web/80/?pitwall-grant=${grant}`, headers: { authorization: "", cookie } })).status).toBe(401);
    expect(heard).toEqual([]);
  });
});

describe("a WebSocket on a VM's host", () => {
  async function echoing(): Promise<Server> {
    const guest = createServer();
    const sockets = new WebSocketServer({ server: guest });
    sockets.on("connection", (socket, { headers }) => socket.send(String(headers.cookie)));
    onTestFinished(() => void sockets.close());
    return guest;
  }

  it("goes through with the cookie of the same origin, and from no other", async () => {
    const { port } = await vmBehind(await echoing(), { domain, decide: decide([], false) });
    const open = (origin: string): WebSocket => {
      const socket = new WebSocket(`ws://127.0.0.1:${port}/`, { headers: { host, cookie: `${cookie}; a=b` }, origin });
      onTestFinished(() => socket.terminate());
      return socket.on("error", () => undefined);
    };
    expect(String((await once(open(`https://${host}`), "message"))[0])).toBe("a=b");
    const [, refused] = (await once(open(`https://evil.${domain}`), "unexpected-response")) as [unknown, IncomingMessage];
    expect(refused.statusCode).toBe(401);
  });
});

describe("with TLS", () => {
  it("one certificate is good for all names, and the VM hears that it was TLS, on HTTP/1.1, HTTP/2 and WebSocket", async () => {
    const seen: IncomingHttpHeaders[] = [];
    const guest = createServer(({ headers }, response) => {
      seen.push(headers);
      response.end("page");
    });
    const sockets = new WebSocketServer({ server: guest });
    sockets.on("connection", (socket, { headers }) => socket.send(String(headers["x-forwarded-proto"])));
    onTestFinished(() => void sockets.close());
    const { port, ca } = await vmBehind(guest, { domain, decide: decide([], false), hasTls: true });
    const name = `web.${domain}`;
    const tls = { ca, servername: name, lookup: toThisMachine };
    const sent = request({ ...tls, host: name, port, headers: { cookie } }).end();
    const [reply] = (await once(sent, "response")) as [IncomingMessage];
    expect((await bodyOf(reply)).toString()).toBe("page");
    const session = connectHttp2(`https://${name}:${port}`, tls as object);
    onTestFinished(() => session.destroy());
    expect((await ask2(session, { path: "/", headers: { authorization: "", cookie } })).status).toBe(200);
    expect(seen.map((headers) => [headers.host, headers["x-forwarded-proto"]])).toEqual([
      [`${name}:${port}`, "https"],
      [`${name}:${port}`, "https"],
    ]);
    const socket = new WebSocket(`wss://${name}:${port}/`, { ...tls, headers: { cookie }, origin: `https://${name}:${port}` });
    onTestFinished(() => socket.terminate());
    expect(String((await once(socket, "message"))[0])).toBe("https");
    // A page that came without TLS is another origin, which somebody on the way may have written.
    expect(
      (
        await ask2(session, {
          method: "POST",
          path: "/",
          headers: { authorization: "", cookie, origin: `http://${name}:${port}` },
          body: "",
        })
      ).status,
    ).toBe(401);
  });
});

const toThisMachine: LookupFunction = (_name, options, done) =>
  options.all === true ? done(null, [{ address: "127.0.0.1", family: 4 }]) : done(null, "127.0.0.1", 4);
