// Several controllers before one gateway: calls go where they are served, and what becomes of them when one of those goes.
import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { createSecureServer, type ClientHttp2Stream, type ServerHttp2Session, type ServerHttp2Stream } from "node:http2";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { silentLog } from "@pitwall/runtime";
import { beforeAll, expect, it, onTestFinished } from "vitest";
import { openApi, type ControllerApi } from "../src/controller-api.ts";

let pair: { readonly key: string; readonly cert: string };
beforeAll(async () => {
  const dir = await mkdtemp(join(tmpdir(), "pitwall-api-"));
  const [key, cert] = [join(dir, "a.key"), join(dir, "a.crt")];
  const kind = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=test"];
  await promisify(execFile)("openssl", [...kind, "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", cert]);
  pair = { key: await readFile(key, "utf8"), cert: await readFile(cert, "utf8") };
  await rm(dir, { recursive: true });
});

interface TestController {
  readonly api: string;
  /** What it says of itself: 1 is SERVING, 2 is not. */
  status: number;
  /** Calls that came, other than for its health; they are not answered. */
  readonly calls: ServerHttp2Stream[];
  /** How often it was asked for its health. */
  asked: number;
  /** Says goodbye to who is connected, and takes no more connections. */
  goAway(): void;
  die(): void;
}

/** A real HTTP/2 server that says how it is. */
async function startController(status = 1): Promise<TestController> {
  const sessions = new Set<ServerHttp2Session>();
  const server = createSecureServer(pair);
  server.on("session", (session) => {
    sessions.add(session);
    session.on("error", () => undefined).once("close", () => sessions.delete(session));
  });
  server.on("stream", (stream, headers) => {
    stream.on("error", () => undefined);
    if (headers[":path"] !== "/grpc.health.v1.Health/Check") return void controller.calls.push(stream);
    controller.asked++;
    stream.respond({ ":status": 200, "content-type": "application/grpc" }, { waitForTrailers: true });
    stream.once("wantTrailers", () => stream.sendTrailers({ "grpc-status": "0" }));
    stream.end(Buffer.from([0, 0, 0, 0, 2, 8, controller.status]));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const die = (): void => {
    server.close();
    for (const session of sessions) session.destroy();
  };
  onTestFinished(die);
  const controller: TestController = {
    api: `127.0.0.1:${(server.address() as AddressInfo).port}`, // it listens on TCP
    status,
    calls: [],
    asked: 0,
    goAway() {
      server.close();
      for (const session of sessions) session.goaway();
    },
    die,
  };
  return controller;
}

function apiOf(controllers: readonly TestController[]): ControllerApi {
  const tls = { key: "", cert: "", ca: pair.cert };
  const api = openApi({ controllers: () => controllers.map(({ api: at }) => ({ api: at, link: "" })), tls: () => tls }, silentLog);
  onTestFinished(() => api[Symbol.dispose]());
  return api;
}

const headers = { ":method": "POST", ":path": "/a.B/C" };
async function callAll(api: ControllerApi, count: number): Promise<ClientHttp2Stream[]> {
  const calls: ClientHttp2Stream[] = [];
  for (let at = 0; at < count; at++) calls.push((await api.request(headers)).on("error", () => undefined));
  return calls;
}
const came = (controllers: readonly TestController[]): number[] => controllers.map(({ calls }) => calls.length);

it("calls are spread over all that serve", async () => {
  const all = [await startController(), await startController(), await startController()];
  const api = apiOf(all);
  await callAll(api, 1);
  await expect
    .poll(
      async () => {
        await callAll(api, 1); // until it is connected to all
        return Math.min(...came(all));
      },
      { timeout: 10_000 },
    )
    .toBeGreaterThan(0);
  await callAll(api, 30);
  await expect.poll(() => Math.max(...came(all)) - Math.min(...came(all)), { timeout: 10_000 }).toBeLessThanOrEqual(1);
});

it("none goes to one that says that it does not serve, until it does", { timeout: 30_000 }, async () => {
  const [good, bad] = [await startController(), await startController(2)];
  const api = apiOf([good, bad]);
  await callAll(api, 1);
  await expect.poll(() => bad.asked, { timeout: 10_000 }).toBeGreaterThan(1); // its first answer has been heard
  const before = bad.calls.length;
  await callAll(api, 20);
  expect(bad.calls.length).toBe(before);
  bad.status = 1;
  await expect
    .poll(
      async () => {
        await callAll(api, 1);
        return bad.calls.length;
      },
      { timeout: 10_000 },
    )
    .toBeGreaterThan(before);
});

it("a gateway is ready while one serves", { timeout: 30_000 }, async () => {
  const [one, other] = [await startController(), await startController(2)];
  const api = apiOf([one, other]);
  expect(await api.notReady()).toBe(undefined);
  one.status = 2;
  await expect.poll(() => api.notReady(), { timeout: 10_000 }).toBe("no controller serves");
  await callAll(api, 1); // whoever calls hears from one of them why
  other.status = 1;
  await expect.poll(() => api.notReady(), { timeout: 10_000 }).toBe(undefined);
});

it.each(["dies", "says goodbye"])("when one %s, the next calls go to the other at once", { timeout: 30_000 }, async (how) => {
  const all = [await startController(), await startController()];
  const api = apiOf(all);
  const mine: ClientHttp2Stream[] = [];
  await expect
    .poll(
      async () => {
        mine.push(...(await callAll(api, 1)));
        return Math.min(...came(all));
      },
      { timeout: 10_000 },
    )
    .toBeGreaterThan(0);
  const [first, second] = all;
  await expect.poll(() => came(all).reduce((sum, one) => sum + one), { timeout: 10_000 }).toBe(mine.length);
  if (how === "dies") first?.die();
  else first?.goAway();
  const noticed = (): number => mine.filter(({ session }) => session === undefined || session.closed || session.destroyed).length;
  await expect.poll(noticed, { timeout: 10_000 }).toBe(first?.calls.length);
  const [before = 0, others = 0] = came(all);
  await callAll(api, 10);
  await expect.poll(() => second?.calls.length, { timeout: 10_000 }).toBe(others + 10);
  expect(first?.calls.length).toBe(before);
});

it("without any, calls are UNAVAILABLE", async () => {
  const one = await startController();
  one.die();
  await expect(apiOf([one]).request(headers)).rejects.toMatchObject({ fault: "unavailable", reason: "CONTROLLER_UNREACHABLE" });
});
