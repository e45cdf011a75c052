// Tokens of Pitwall's own at a public port of a VM, and grants in addresses: no VM sees one, whatever keeps the gateway from taking it.
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { exportJWK, generateKeyPair, SignJWT, type JWK, type JWTPayload } from "jose";
import { describe, expect, it, onTestFinished } from "vitest";
import { ask1, ask2, heardFrom, socketTo } from "./support/ingress-clients.ts";
import { session2 } from "./support/upstream.ts";
import { bearer, vmBehind } from "./support/vm-behind.ts";

const domain = "vms.example.com";
const host = `web.${domain}`;

interface Stand {
  readonly port: number;
  /** What the VM had as `authorization`. */
  readonly heard: (string | undefined)[];
  /** A token of the issuer's, of Pitwall's audience unless it says otherwise. */
  readonly sign: (claims?: JWTPayload, header?: { kid?: string; typ?: string }) => Promise<string>;
}

/** `keysOf` makes what the issuer has at the address of its keys, from the key that it signs with. */
async function start(keysOf: (key: JWK) => unknown = (key) => ({ keys: [key] })): Promise<Stand> {
  const { privateKey, publicKey } = await generateKeyPair("ES256", { extractable: true });
  const key: JWK = { ...(await exportJWK(publicKey)), kid: "one", alg: "ES256" };
  const server = createServer((request, response) =>
    response.end(JSON.stringify(request.url === "/keys" ? keysOf(key) : { issuer, jwks_uri: `${issuer}/keys` })),
  );
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  onTestFinished(() => void server.close());
  const issuer = `http://127.0.0.1:${(server.address() as AddressInfo).port}`; // it listens on TCP
  const heard: Stand["heard"] = [];
  const guest = createServer(({ headers }, response) => {
    heard.push(headers.authorization);
    response.end();
  });
  const now = Math.floor(Date.now() / 1_000);
  const sign: Stand["sign"] = (claims = {}, header = {}) =>
    new SignJWT({ iss: issuer, aud: "pitwall", sub: "ada", iat: now, exp: now + 3_600, ...claims })
      .setProtectedHeader({ alg: "ES256", kid: "one", typ: "at+jwt", ...header })
      .sign(privateKey);
  return { port: (await vmBehind(guest, { domain, issuer })).port, heard, sign };
}

const ask = async ({ port }: Stand, authorization: string): Promise<number> =>
  (await ask1(port, { path: "/", headers: { host, authorization } })).status;

describe("a token of Pitwall's is not shown to the VM", () => {
  it("that is good", async () => {
    const stand = await start();
    expect(await ask(stand, `Bearer ${await stand.sign()}`)).toBe(200);
    expect(stand.heard).toEqual([undefined]);
  });

  it("of a key that the issuer had not when it was asked last", async () => {
    const stand = await start();
    expect(await ask(stand, `Bearer ${await stand.sign()}`)).toBe(200);
    expect(await ask(stand, `Bearer ${await stand.sign({}, { kid: "two" })}`)).toBe(401);
    expect(stand.heard).toEqual([undefined]);
  });

  it("while keys cannot be had", async () => {
    const stand = await start(() => ({ keys: "none" }));
    expect(await ask(stand, `Bearer ${await stand.sign()}`)).toBeGreaterThanOrEqual(401);
    expect(stand.heard).toEqual([]);
  });

  it("that two keys fit", async () => {
    const stand = await start((key) => ({ keys: [key, key] }));
    expect(await ask(stand, `Bearer ${await stand.sign()}`)).toBeGreaterThanOrEqual(401);
    expect(stand.heard).toEqual([]);
  });

  it("that is good in a minute, signs somebody in elsewhere, or is for something else", async () => {
    const stand = await start();
    const minute = Math.floor(Date.now() / 1_000) + 60;
    for (const token of [
      await stand.sign({ nbf: minute }),
      await stand.sign({ nonce: "n", aud: "cli" }, { typ: "JWT" }),
      await stand.sign({ aud: "else" }),
      await stand.sign({ exp: minute - 120 }),
    ])
      expect(await ask(stand, `Bearer ${token}`)).toBe(401);
    expect(stand.heard).toEqual([]);
  });

  it("however it is written", async () => {
    const stand = await start();
    const token = await stand.sign();
    for (const written of [`Bearer  ${token}`, bearer.replace(" ", "  "), `Token ${bearer.slice(7)}`, token, `Bearer "${token}"`])
      expect(await ask(stand, written)).toBe(401);
    expect(stand.heard).toEqual([]);
  });
});

it("a token of anybody else's is the VM's", async () => {
  const stand = await start();
  const theirs = [`Bearer ${await stand.sign({ iss: "https://else.example" })}`, "Bearer opaque", "Basic YTpi"];
  for (const authorization of theirs) expect(await ask(stand, authorization)).toBe(200);
  expect(stand.heard).toEqual(theirs);
});

describe("a grant in an address is not shown to the VM", () => {
  const query = "?a=b&pitwall-grant=pwg_x&c";
  it.each([
    ["whose method leads nowhere else", { method: "POST", path: `/p${query}`, host }],
    ["whose method is to be asked for", { method: "OPTIONS", path: `/p${query}`, host }],
    ["below the gateway's address", { method: "GET", path: `/vm/web/80/p${query}`, host: "gateway.example.com" }],
    ["that asks for a WebSocket", { method: "GET", path: `/p${query}`, host, upgrade: "websocket" }],
    ["that asks for a WebSocket there", { method: "GET", path: `/vm/web/80/p${query}`, host: "gateway.example.com", upgrade: "websocket" }],
  ])("of a request %s", async (_, { method, path, host: named, upgrade }: Asked) => {
    const said: string[] = [];
    const guest = createServer(({ url, rawHeaders }, response) => {
      said.push(url ?? "", ...rawHeaders);
      response.end();
    });
    const { port } = await vmBehind(guest, { domain });
    const referer = `https://${named}${path}`;
    if (upgrade === undefined) {
      await using session = await session2(port);
      expect((await ask1(port, { method, path, headers: { host: named, referer } })).status).toBe(200);
      expect((await ask2(session, { method, path, headers: { ":authority": named, referer } })).status).toBe(200);
    } else {
      const socket = await socketTo(port);
      const lines = [`${method} ${path} HTTP/1.1`, `host: ${named}`, `authorization: ${bearer}`, `referer: ${referer}`];
      socket.write([...lines, "connection: upgrade", `upgrade: ${upgrade}`, "", ""].join("\r\n"));
      expect(await heardFrom(socket, /\r\n\r\n/)).toMatch(/^HTTP\/1\.1 200 /);
    }
    expect(said).toContain("/p?a=b&c");
    expect(said.join(" ")).toContain(`https://${named}`);
    expect(said.join(" ")).not.toContain("pwg_");
  });
});

interface Asked {
  readonly method: string;
  readonly path: string;
  readonly host: string;
  readonly upgrade?: string;
}
