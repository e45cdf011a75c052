// What one principal may have under way, and for how long, at a gateway before the API of an installation; a good client beside one that
// means harm.
import { once } from "node:events";
import { connect, type ClientHttp2Session, type ClientHttp2Stream, type IncomingHttpHeaders, type OutgoingHttpHeaders } from "node:http2";
import { makeApiToken, openVerifier } from "@pitwall/auth";
import { silentLog } from "@pitwall/runtime";
import { expect, it, onTestFinished } from "vitest";
import { GatewayMetrics } from "../src/metrics.ts";
import { deadlineOf } from "../src/web/deadlines.ts";
import { openDoor } from "../src/web/door.ts";
import { defaultLimits } from "../src/web/limits.ts";
import { Principals } from "../src/web/principals.ts";
import { openWebServer } from "../src/web/server.ts";
import { upstreams } from "../src/web/upstreams.ts";
import { answer, frame } from "./support/gateway-before.ts";
import { openUpstream, session2 } from "./support/upstream.ts";

const perPrincipal = 5;
const path = "/pitwall.v1.VmService/GetVm";

interface Gateway {
  readonly port: number;
  readonly metrics: GatewayMetrics;
  /** Of calls, as the API had them. */
  readonly heard: IncomingHttpHeaders[];
}

async function start(): Promise<Gateway> {
  const heard: IncomingHttpHeaders[] = [];
  const upstream = await openUpstream((stream, headers) => {
    heard.push(headers);
    if (headers["x-hang"] === undefined) answer(stream, frame);
    else stream.resume();
  });
  onTestFinished(() => upstream[Symbol.asyncDispose]());
  const api = connect(`http://127.0.0.1:${upstream.port}`);
  await once(api, "connect");
  onTestFinished(() => void api.destroy());
  const metrics = new GatewayMetrics();
  const controller = { request: async (sent: OutgoingHttpHeaders) => api.request(sent) };
  const noVms = { open: () => Promise.reject(new Error("no VMs here")) };
  const door = openDoor(openVerifier({ issuer: "http://127.0.0.1:9", audience: "pitwall" }));
  const open = upstreams(door, controller, noVms, new Principals(perPrincipal, metrics.refuse));
  const parts = { open, deadlineOf, corsOrigins: [], limits: defaultLimits, metrics, log: silentLog };
  const web = await openWebServer({ host: "127.0.0.1", port: 0 }, parts);
  onTestFinished(() => web[Symbol.asyncDispose]());
  return { port: web.port, metrics, heard };
}

async function client(port: number): Promise<ClientHttp2Session> {
  const session = await session2(port);
  onTestFinished(() => void session.destroy());
  return session;
}

function begin(session: ClientHttp2Session, token: string, more: Readonly<Record<string, string>> = {}): ClientHttp2Stream {
  const headers = { ":method": "POST", ":path": path, "content-type": "application/grpc", authorization: `Bearer ${token}`, ...more };
  const stream = session.request(headers);
  stream.on("error", () => undefined).end(frame);
  return stream;
}

async function statusOf(stream: ClientHttp2Stream): Promise<string> {
  let status: unknown;
  stream.once("response", (headers: IncomingHttpHeaders) => (status ??= headers["grpc-status"]));
  stream.once("trailers", (headers: IncomingHttpHeaders) => (status ??= headers["grpc-status"]));
  await once(stream.resume(), "close");
  return String(status);
}

/** A gateway that stops would wait for calls that hang. */
async function leave(sessions: readonly ClientHttp2Session[], { registry }: GatewayMetrics): Promise<void> {
  for (const session of sessions) session.destroy();
  await expect.poll(async () => (await registry.metrics()).includes("pitwall_gateway_calls 0")).toBe(true);
}

it("one principal has no more under way than it may, on however many connections; others are served, and so is it once some have ended", async () => {
  const { port, metrics, heard } = await start();
  const [greedy, good] = [makeApiToken().text, makeApiToken().text];
  const sessions = await Promise.all([client(port), client(port), client(port)]);
  const hanging = Array.from({ length: perPrincipal }, (_, at) => begin(sessions[at % 3] as ClientHttp2Session, greedy, { "x-hang": "1" }));
  await expect.poll(() => heard.length).toBe(perPrincipal);
  for (const session of sessions) expect(await statusOf(begin(session, greedy))).toBe("8");
  expect(await metrics.registry.metrics()).toContain('pitwall_gateway_refused_total{reason="calls_per_principal"} 3');
  expect(await statusOf(begin(await client(port), good))).toBe("0");
  expect(heard).toHaveLength(perPrincipal + 1);
  hanging[0]?.destroy();
  await expect.poll(() => statusOf(begin(sessions[1], greedy))).toBe("0");
  await leave(sessions, metrics);
});

it("whoever knows a token's id uses up nothing of whoever has its secret", async () => {
  const { port, metrics, heard } = await start();
  const { id, text } = makeApiToken();
  const session = await client(port);
  for (let at = 0; at < perPrincipal; at++) begin(session, `pwt_${id}_${makeApiToken().text.slice(-43)}`, { "x-hang": "1" });
  for (let at = 0; at < perPrincipal; at++) begin(session, `pwt_${id}_${"a".repeat(43)}`, { "x-hang": "1" });
  await expect.poll(() => heard.length).toBe(2 * perPrincipal);
  expect(await statusOf(begin(await client(port), text))).toBe("0");
  await leave([session], metrics);
});

it("calls that come and are reset leave nothing behind", async () => {
  const { port } = await start();
  const { text } = makeApiToken();
  const session = await client(port);
  for (let round = 0; round < 10; round++) {
    const streams = Array.from({ length: perPrincipal }, () => begin(session, text, { "x-hang": "1" }));
    await Promise.all(
      streams.map((stream) => {
        stream.destroy();
        return once(stream, "close");
      }),
    );
  }
  await expect.poll(() => statusOf(begin(session, text))).toBe("0");
});

it.each([
  [path, undefined, "60000m"],
  [path, "2H", "60000m"],
  [path, "250m", "250m"],
  ["/pitwall.v1.VmService/WaitVm", "2H", "2H"],
  ["/pitwall.v1.VmService/WatchVms", undefined, undefined],
])("%s with the deadline %s has %s", async (method, asked, has) => {
  const { port, heard } = await start();
  const more = { ":path": method, ...(asked !== undefined && { "grpc-timeout": asked }) };
  expect(await statusOf(begin(await client(port), makeApiToken().text, more))).toBe("0");
  expect(heard[0]?.["grpc-timeout"]).toBe(has);
});
