// Durable creates: asked for through the API, placed, reported running by simulated nodes, against pgbench on the same server.
import { randomUUID } from "node:crypto";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type { Ca } from "@pitwall/controller/src/ca/ca.ts";
import type { Controller, Installation } from "@pitwall/controller/tests/support/installation.ts";
import { Phase } from "@pitwall/proto/pitwall/v1/vm.ts";
import { startFleet } from "./control-fleet.ts";
import { openPgbench } from "./control-pgbench.ts";
import { startMeasured } from "./control-measured.ts";
import { median, percentile, round, type BenchOptions, type Metric } from "./measure.ts";
import { cpuMsOf, familyCpuMsOf } from "./processes.ts";

const goal = 1;
const projects = 20;
/** Of PostgreSQL's connections, 60, the controller takes up to 18. */
const clients = 32;

/** VMs that are made as fast as they can be, until they run. */
export interface Creator extends AsyncDisposable {
  /** With so many at once; how many run a second. */
  run(forMs: number, atOnce: number): Promise<number>;
  /** Creates one; its id once it runs. */
  one(): Promise<string>;
  /** All that were acknowledged. */
  readonly acknowledged: ReadonlySet<string>;
}

/** Projects of the administrator's that may have as much as the benchmark asks for. */
export async function makeProjects({ query }: Installation): Promise<void> {
  await query(
    `with made as (
       insert into project (id, name, quota_vms, quota_cpu_millis, quota_mem_bytes, quota_disk_bytes, quota_addresses, create_time)
       select gen_random_uuid(), concat('bench-', n), 1e9, 1e15, 1e18, 1e18, 1e9, now() from generate_series(1, $1::int) as n
       on conflict (name) do nothing returning id)
     insert into project_member (project_id, subject, role, create_time) select id, 'dev', 'owner', now() from made`,
    [projects],
  );
}

export async function openCreator({ admin }: Pick<Controller, "admin">, image: string): Promise<Creator> {
  const acknowledged = new Set<string>();
  const running = new Set<string>();
  const waiting = new Map<string, () => void>();
  const stop = new AbortController();
  const synced = Promise.withResolvers<void>();
  const watching = (async () => {
    for await (const { vm, synced: isSynced } of admin.vms.watchVms({ project: "-" }, { signal: stop.signal })) {
      if (isSynced) synced.resolve();
      if (vm?.phase !== Phase.PHASE_RUNNING || running.has(vm.id)) continue;
      running.add(vm.id);
      waiting.get(vm.id)?.();
    }
  })().catch((error: unknown) => synced.reject(error));
  await synced.promise;
  let made = 0;
  const one = async (): Promise<string> => {
    const project = `bench-${1 + (made++ % projects)}`;
    const spec = { image, cpuMillis: 100, memBytes: 128n << 20n, diskBytes: 64n << 20n };
    const { vm } = await admin.vms.createVm({ requestId: randomUUID(), project, spec });
    if (!vm) throw new Error("a VM was made without being told");
    acknowledged.add(vm.id);
    if (!running.has(vm.id)) await new Promise<void>((resolve) => waiting.set(vm.id, resolve));
    waiting.delete(vm.id);
    return vm.id;
  };
  return {
    acknowledged,
    one,
    async run(forMs, atOnce) {
      const begun = performance.now();
      let count = 0;
      const work = async (): Promise<void> => {
        for (; performance.now() - begun < forMs; count++) await one();
      };
      await Promise.all(Array.from({ length: atOnce }, work));
      return (count / (performance.now() - begun)) * 1000;
    },
    async [Symbol.asyncDispose]() {
      stop.abort();
      await watching;
    },
  };
}

export async function measureCreates(installation: Installation, ca: Ca, { quick, say }: BenchOptions): Promise<Record<string, Metric>> {
  const { rounds, seconds, nodes } = quick ? { rounds: 2, seconds: 2, nodes: 10 } : { rounds: 5, seconds: 15, nodes: 50 };
  await using parts = new AsyncDisposableStack();
  const unlimited = { PITWALL_CHANGES_PER_SECOND: "0", PITWALL_READS_PER_SECOND: "0" };
  const controller = parts.use(await startMeasured(installation, unlimited));
  await makeProjects(installation);
  const stateDir = join(installation.dir, "creating");
  const fleet = parts.use(await startFleet(installation, ca, controller, { stateDir, name: "creating", count: nodes }));
  const creator = parts.use(await openCreator(controller, installation.image));
  const pgbench = parts.use(await openPgbench(installation, await creator.one()));
  await creator.run(1_000, clients); // warm
  const [ours, theirs]: [number[], number[]] = [[], []];
  const [costs, theirCosts]: [Cost[], Cost[]] = [[], []];
  const spent = await meter(installation, controller.pid, fleet.pid);
  const measure = async (run: () => Promise<number>, into: number[], cost: Cost[]): Promise<void> => {
    const [before, begunMs] = [await spent(), performance.now()];
    const perSecond = await run();
    const made = (perSecond * (performance.now() - begunMs)) / 1000;
    const after = await spent();
    into.push(perSecond);
    cost.push({
      postgres: (after.postgres - before.postgres) / made,
      controller: (after.controller - before.controller) / made,
      others: (after.others - before.others) / made,
    });
  };
  const runTheirs = (): Promise<void> => measure(() => pgbench.run(seconds, clients), theirs, theirCosts);
  for (let at = 0; at < rounds; at++) {
    if (at % 2 === 1) await runTheirs();
    await measure(() => creator.run(seconds * 1000, clients), ours, costs);
    if (at % 2 === 0) await runTheirs();
    say(`${at + 1}/${rounds}: ${Math.round(ours.at(-1) ?? 0)} VMs/s created and running, pgbench ${Math.round(theirs.at(-1) ?? 0)}/s`);
  }
  const ids = [...creator.acknowledged];
  const [kept] = await installation.query("select count(*)::int as n from vm where id = any($1::uuid[]) and phase = $2", [
    ids,
    Phase.PHASE_RUNNING,
  ]);
  if (kept?.["n"] !== ids.length) throw new Error(`of ${ids.length} VMs that were seen running, the database has ${String(kept?.["n"])}`);
  const ratios = ours.map((value, at) => value / (theirs[at] ?? NaN));
  const value = round(median(ratios));
  const cost = (of: readonly Cost[], part: keyof Cost): number => round(median(of.map((each) => each[part])));
  const raw = {
    ...{ creates_per_second: round(median(ours)), pgbench_per_second: round(median(theirs)), clients },
    ...{ postgres_cpu_ms: cost(costs, "postgres"), pgbench_postgres_cpu_ms: cost(theirCosts, "postgres") },
    ...{ controller_cpu_ms: cost(costs, "controller"), nodes_and_clients_cpu_ms: cost(costs, "others") },
  };
  return {
    durable_create_vs_pgbench: {
      value,
      p95: round(percentile(ratios, 0.95)),
      unit: "ratio",
      goal,
      ok: value >= goal,
      n: ratios.length,
      raw,
    },
  };
}

/** Processor time in milliseconds: of a part so far, or for one VM. */
interface Cost {
  readonly postgres: number;
  readonly controller: number;
  /** Simulated nodes, and this process, whose clients ask and watch. */
  readonly others: number;
}

async function meter({ dir }: Installation, controllerPid: number, fleetPid: number): Promise<() => Promise<Cost>> {
  const postmaster = Number((await readFile(join(dir, "postgres", "data", "postmaster.pid"), "utf8")).split("\n", 1)[0]);
  return async () => ({
    postgres: await familyCpuMsOf(postmaster),
    controller: await cpuMsOf(controllerPid),
    others: (await cpuMsOf(fleetPid)) + (await cpuMsOf(process.pid)),
  });
}
