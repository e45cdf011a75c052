// The web port with TLS: what is agreed on with ALPN, and a certificate that is renewed under it.
import { execFile } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { request, type RequestOptions } from "node:https";
import type { IncomingMessage } from "node:http";
import { connect as connectHttp2 } from "node:http2";
import { connect as connectTcp } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect as connectTls, type SecureVersion, type TLSSocket } from "node:tls";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, it, onTestFinished } from "vitest";
import type { CertificateFiles } from "../src/web/certificate.ts";
import type { WebLimits } from "../src/web/limits.ts";
import { answer, frame, gatewayBefore } from "./support/gateway-before.ts";
import { openSocket } from "./support/socket-caller.ts";
import { call2, trailersOf, webHeaders } from "./support/upstream.ts";

let dir: string;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "pitwall-tls-"));
});
afterAll(() => rm(dir, { recursive: true, force: true }));

/** A pair that is its own authority, at the same paths for the same name. */
async function makePair(name: string): Promise<CertificateFiles> {
  const files = { certificate: join(dir, `${name}.crt`), key: join(dir, `${name}.key`) };
  const kind = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=test"];
  const paths = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", files.key, "-out", files.certificate];
  await promisify(execFile)("openssl", [...kind, ...paths]);
  return files;
}

async function securedGateway(name: string, limits: Partial<WebLimits> = {}): Promise<{ port: number; files: CertificateFiles }> {
  const files = await makePair(name);
  const { port } = await gatewayBefore((stream) => answer(stream, frame), { tls: files, limits });
  return { port, files };
}

/** Which certificate a new connection is shown. */
async function shown(port: number): Promise<string> {
  const socket: TLSSocket = connectTls({ port, host: "127.0.0.1", rejectUnauthorized: false });
  await once(socket, "secureConnect");
  const { fingerprint256 } = socket.getPeerCertificate();
  socket.destroy();
  return fingerprint256;
}

it("speaks HTTP/2 to who offers it, with gRPC-Web and gRPC, and HTTP/1.1 to others", async () => {
  const { port } = await securedGateway("alpn");
  const session = connectHttp2(`https://127.0.0.1:${port}`, { rejectUnauthorized: false });
  onTestFinished(() => session.destroy());
  expect(trailersOf((await call2(session, frame)).body)).toBe("grpc-status: 0\r\n");
  expect((await call2(session, frame, { "content-type": "application/grpc" })).trailers["grpc-status"]).toBe("0");
  const options: RequestOptions = {
    port,
    host: "127.0.0.1",
    path: "/a.B/C",
    method: "POST",
    headers: webHeaders,
    rejectUnauthorized: false,
  };
  const sent = request({ ...options, agent: false });
  sent.end(frame);
  const [reply] = (await once(sent, "response")) as [IncomingMessage];
  const chunks: Buffer[] = [];
  for await (const chunk of reply) chunks.push(chunk as Buffer); // no encoding is set
  expect(trailersOf(Buffer.concat(chunks))).toBe("grpc-status: 0\r\n");
});

it("takes calls over WebSocket, and of pages of its own origin those alone that came with TLS, too", async () => {
  const { port } = await securedGateway("socket");
  const path = "/a.B/C";
  using caller = await openSocket(port, { path, isSecure: true, headers: { origin: `https://127.0.0.1:${port}` } });
  const { data, trailers } = await caller.begin().say(0, frame).halfClose().all();
  expect(data.equals(frame)).toBe(true);
  expect(trailers).toContain("grpc-status: 0");
  const other = openSocket(port, { path, isSecure: true, headers: { origin: `http://127.0.0.1:${port}` } });
  await expect(other).rejects.toThrow("HTTP status 403");
});

it("closes no connection for a new one that is at work, below TLS as well", async () => {
  const { port } = await securedGateway("working", { connectionsPerSource: 2 });
  const working = [1, 2].map(() => connectHttp2(`https://127.0.0.1:${port}`, { rejectUnauthorized: false }));
  onTestFinished(() => working.forEach((session) => session.destroy()));
  for (const session of working) expect(trailersOf((await call2(session, frame)).body)).toBe("grpc-status: 0\r\n");
  const third = connectTcp(port, "127.0.0.1");
  await once(third.on("error", () => undefined).resume(), "close");
  for (const session of working) expect(trailersOf((await call2(session, frame)).body)).toBe("grpc-status: 0\r\n");
});

it.each<[string, SecureVersion, boolean]>([
  ["1.1", "TLSv1.1", false],
  ["1.2", "TLSv1.2", true],
  ["1.3", "TLSv1.3", true],
])("takes TLS %s, which is %s: %s", async (_, version, takes) => {
  const { port } = await securedGateway("versions");
  const options = { minVersion: version, maxVersion: version, ciphers: "DEFAULT:@SECLEVEL=0" } as const; // else the client refuses 1.1 itself
  const socket = connectTls({ port, host: "127.0.0.1", rejectUnauthorized: false, ...options });
  onTestFinished(() => void socket.destroy());
  const connected = once(socket, "secureConnect");
  if (takes) await connected;
  else await expect(connected).rejects.toThrow(/alert protocol version/);
});

it("says nothing to who speaks no TLS", async () => {
  const { port } = await securedGateway("plain");
  const socket = connectTcp(port, "127.0.0.1");
  let said = "";
  socket.on("error", () => undefined).on("data", (chunk) => (said += chunk.toString("latin1")));
  socket.write("GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n");
  await once(socket, "close");
  expect(said).not.toContain("HTTP/");
});

it("shows a renewed certificate to new connections and keeps the old ones; half a renewal changes nothing", async () => {
  const { port, files } = await securedGateway("renewed");
  const before = await shown(port);
  const session = connectHttp2(`https://127.0.0.1:${port}`, { rejectUnauthorized: false });
  onTestFinished(() => session.destroy());
  await once(session, "connect");
  await writeFile(files.certificate, "half a certificate");
  await new Promise((resolve) => setTimeout(resolve, 2_500)); // it is looked at every second: nothing shows that it was
  expect(await shown(port)).toBe(before);
  await makePair("renewed");
  await expect.poll(() => shown(port), { timeout: 20_000, interval: 200 }).not.toBe(before);
  expect(trailersOf((await call2(session, frame)).body)).toBe("grpc-status: 0\r\n");
});

it("does not start with a key that is not the certificate's", async () => {
  const [one, other] = [await makePair("one"), await makePair("other")];
  await expect(gatewayBefore(() => undefined, { tls: { certificate: one.certificate, key: other.key } })).rejects.toThrow(
    "PITWALL_TLS_CERT, PITWALL_TLS_KEY: the files do not hold a certificate in PEM and its key",
  );
});
