// A gateway of several processes: who serves, what the death of one breaks, and how all of them end.
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { createServer, type AddressInfo } from "node:net";
import { expect, it, onTestFinished } from "vitest";
import { startLoneGateway, type LoneGateway } from "./support/children.ts";
import { answer, frame } from "./support/gateway-before.ts";
import { call2, openUpstream, session2, trailersOf } from "./support/upstream.ts";

async function gatewayOf(workers: number): Promise<LoneGateway & { readonly ops: number }> {
  const upstream = await openUpstream((stream) => answer(stream, frame));
  onTestFinished(() => upstream[Symbol.asyncDispose]());
  const gateway = await startLoneGateway(upstream.port, ["--workers", String(workers), "--ops-listen", "127.0.0.1:0"]);
  onTestFinished(() => gateway[Symbol.asyncDispose]());
  return { ...gateway, ops: (JSON.parse(gateway.line) as { ops: number }).ops };
}

async function childrenOf(pid: number): Promise<number[]> {
  const text = await readFile(`/proc/${pid}/task/${pid}/children`, "utf8").catch(() => "");
  return text.split(" ").filter(Boolean).map(Number);
}

/** `pitwall gateway` starts the gateway, which starts its workers. */
async function workersOf(gateway: LoneGateway): Promise<number[]> {
  const [service = 0] = await childrenOf(gateway.pid);
  return childrenOf(service);
}

async function metric(ops: number, pattern: RegExp): Promise<number> {
  const text = await (await fetch(`http://127.0.0.1:${ops}/metrics`)).text();
  return Number(pattern.exec(text)?.[1]);
}

it("connections are spread over all of them, and their metrics are added up", async () => {
  const gateway = await gatewayOf(3);
  expect(await workersOf(gateway)).toHaveLength(3);
  await using connections = new AsyncDisposableStack();
  for (let n = 0; n < 6; n++) {
    const session = connections.use(await session2(gateway.port));
    expect(trailersOf((await call2(session, frame)).body)).toBe("grpc-status: 0\r\n");
  }
  expect(await metric(gateway.ops, /^pitwall_gateway_connections (\d+)$/m)).toBe(6);
  expect(await metric(gateway.ops, /^pitwall_gateway_calls_total\{.*code="0".*\} (\d+)$/m)).toBe(6);
});

it("one that is killed takes its own connections with it and no others, and another takes its place", async () => {
  const gateway = await gatewayOf(2);
  const before = await workersOf(gateway);
  await using connections = new AsyncDisposableStack();
  const open = await Promise.all(Array.from({ length: 4 }, async () => connections.use(await session2(gateway.port))));
  for (const session of open) await call2(session, frame);
  process.kill(before[0] ?? 0, "SIGKILL");
  await expect.poll(() => open.filter(({ closed }) => closed).length).toBe(2);
  for (const session of open.filter(({ closed }) => !closed))
    expect(trailersOf((await call2(session, frame)).body)).toBe("grpc-status: 0\r\n");
  await using next = await session2(gateway.port);
  expect(trailersOf((await call2(next, frame)).body)).toBe("grpc-status: 0\r\n");
  await expect.poll(async () => (await workersOf(gateway)).length, { timeout: 10_000 }).toBe(2);
  expect((await workersOf(gateway)).filter((pid) => before.includes(pid))).toEqual([before[1]]);
});

it("all end when the gateway is told to stop, and when it is killed", async () => {
  const stopped = await gatewayOf(2);
  expect(await stopped.stop()).toBe(0);

  const killed = await gatewayOf(2);
  const workers = await workersOf(killed);
  const [service = 0] = await childrenOf(killed.pid);
  process.kill(service, "SIGKILL");
  await expect.poll(() => workers.filter(isAlive), { timeout: 10_000 }).toEqual([]);
});

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}

it("does not start when a port is taken", async () => {
  const taken = createServer().listen(0, "127.0.0.1");
  onTestFinished(() => void taken.close());
  await once(taken, "listening");
  const { port } = taken.address() as AddressInfo;
  const starting = startLoneGateway(1, ["--workers", "2", "--listen", `127.0.0.1:${port}`]);
  await expect(starting).rejects.toThrow(`cannot listen on 127.0.0.1:${port}; is another gateway running?`);
});

it.each(["many", "0", "65", "1.5"])("says what is wrong with %s of them", async (number) => {
  const wrong = `PITWALL_WORKERS: must be a whole number from 1 to 64, or auto, got "${number}"`;
  await expect(startLoneGateway(1, ["--workers", number])).rejects.toThrow(wrong);
});
