// Controllers are replaced one by one by those of this release, and one is taken back, while clients call and watch: two real releases on one
// database, whose schema changes below them.
import { cp, mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { JoinRole, NodeState } from "@pitwall/proto/pitwall/v1/node.ts";
import { Phase } from "@pitwall/proto/pitwall/v1/vm.ts";
import { afterAll, beforeAll, expect, test } from "vitest";
import { migrations } from "../src/store/migrations/index.ts";
import { openEarlierRelease } from "./support/earlier-release.ts";
import { eventually, startInstallation, type Controller, type Installation } from "./support/installation.ts";
import { LockObserver } from "./support/lock-observer.ts";
import { startProcess } from "./support/processes.ts";
import { makeStanding, Traffic, Watch } from "./support/traffic.ts";

/** The earlier release is what was there before this step of the schema. */
const firstStepOfLater = "0060-host-tombstones.ts";
/** Of a table that all changes need, by a step: none scans or rewrites one. The rest is for a machine that is busy. */
const lockLimitMs = 5_000;
/** In which a node is back on another controller: its back-off, a handshake, and a machine that is busy. */
const relinkLimitMs = 10_000;
const callsBetween = 25;
const clients = 4;
const oldNodes = 2;
const standing = ["standing-0", "standing-1", "standing-2", "standing-3"];

/** Nobody else listens at these addresses, so that a controller can come back at its own. */
const network = `127.${1 + Math.floor(Math.random() * 253)}.${Math.floor(Math.random() * 255)}`;

const cleanUp = new AsyncDisposableStack();
let installation: Installation;
let earlier: { readonly root: string; readonly steps: readonly string[] } | string;
/** By where it listens. */
const controllers: Controller[] = [];

beforeAll(async () => {
  installation = cleanUp.use(await startInstallation());
  const dir = join(installation.dir, "earlier");
  await mkdir(dir);
  earlier = await openEarlierRelease(dir, firstStepOfLater);
}, 120_000);

afterAll(async () => {
  await Promise.all(controllers.map((controller) => controller[Symbol.asyncDispose]()));
  await cleanUp.disposeAsync();
});

/** The controller of this index, at its address, of the release in `root`; of this one without. Each has a copy of the CA's folder. */
async function start(index: number, root?: string): Promise<void> {
  const caDir = join(installation.dir, index === 0 ? "ca" : `ca-${index}`);
  if (index > 0) await cp(join(installation.dir, "ca"), caDir, { recursive: true });
  const host = `${network}.${index + 1}`;
  const env = {
    PITWALL_LISTEN: `${host}:7000`,
    PITWALL_LINK_LISTEN: `${host}:7001`,
    PITWALL_CA_DIR: caDir,
    PITWALL_LEASE: "10s",
    PITWALL_HEARTBEAT: "1s",
    PITWALL_CHANGES_PER_SECOND: "100000",
    PITWALL_READS_PER_SECOND: "100000",
  };
  controllers[index] = await installation.startController(env, root);
}

/** As an operator does: the old one is told to stop, and when it is gone the new one is started. */
async function replace(index: number, root?: string): Promise<string> {
  const { signal, ended, log } = controllerAt(index);
  signal("SIGTERM");
  await ended;
  await start(index, root);
  return log();
}

const controllerAt = (index: number): Controller => {
  const controller = controllers[index];
  if (!controller) throw new Error(`there is no controller ${index}`);
  return controller;
};

async function startNodes(name: string, count: number, root?: string): Promise<string> {
  const { admin } = controllerAt(0);
  const { join: text } = await admin.nodes.createJoinToken({ role: JoinRole.JOIN_ROLE_NODE, uses: count });
  const trace = join(installation.dir, `${name}.jsonl`);
  const env = {
    ...{ PITWALL_STATE_DIR: join(installation.dir, name), PITWALL_NAME: name, PITWALL_JOIN: text, PITWALL_TRACE: trace },
    ...{ PITWALL_SIMULATE: "true", PITWALL_COUNT: String(count), PITWALL_LOG_LEVEL: "error" },
  };
  cleanUp.use(await startProcess("node", env, root));
  return trace;
}

/** How often each VM was started there. */
async function startsIn(trace: string): Promise<string[]> {
  const events = (await readFile(trace, "utf8")).trim().split("\n");
  return events.flatMap((line) => {
    const { step, vm } = JSON.parse(line) as { step: string; vm?: string };
    return step === "create.vmm.started" && vm !== undefined ? [vm] : [];
  });
}

const nodesAreReady = (count: number): Promise<true> =>
  eventually(async () => {
    const { nodes } = await controllerAt(0).admin.nodes.listNodes({});
    return nodes.filter(({ state }) => state === NodeState.NODE_STATE_READY).length === count || undefined;
  });

const steps = async (): Promise<number> =>
  Number((await installation.query("select count(*) as steps from schema_migration"))[0]?.["steps"]);

test(
  "two releases, one after the other and back, under calls and watches: nothing is lost, doubled or restarted",
  { timeout: 300_000 },
  async ({ skip }) => {
    if (typeof earlier === "string") {
      console.warn(`NOT TESTED: an upgrade from a real earlier release: ${earlier}`);
      return skip(earlier);
    }
    const { root } = earlier;
    expect(migrations.length - earlier.steps.length).toBeGreaterThanOrEqual(10);
    await start(0, root);
    await start(1, root);
    expect(await steps()).toBe(earlier.steps.length);
    const traces = [await startNodes("old", oldNodes, root), await startNodes("new", 1)];
    await nodesAreReady(oldNodes + 1);
    await installation.query(
      "update project set quota_vms = 10000, quota_cpu_millis = 1e9::bigint, quota_mem_bytes = 1::bigint << 50, quota_disk_bytes = 1::bigint << 55, quota_addresses = 10000",
    );
    const stood = await makeStanding(controllerAt(0).admin, installation.image, standing);
    const apis = (): readonly Controller["admin"][] => controllers.map(({ admin }) => admin);
    const watches = [0, 1].map((first) => cleanUp.use(new Watch(apis, first)));
    await Promise.all(watches.map(({ synced }) => synced));
    const [baseline] = await installation.query("select coalesce(max(seq), 0) as seq from vm_event");
    const observer = cleanUp.use(await LockObserver.open(installation.databaseUrl));
    const traffic = new Traffic({ apis, image: installation.image, clients });
    await using under = new AsyncDisposableStack();
    under.use(traffic);

    const logs: string[] = [];
    await traffic.more(callsBetween);
    for (const index of [0, 1]) {
      logs.push(await replace(index));
      expect(await steps()).toBe(migrations.length);
      await traffic.more(callsBetween);
    }
    logs.push(await replace(1, root)); // back
    await traffic.more(callsBetween);
    await under.disposeAsync();
    logs.push(...controllers.map(({ log }) => log()));
    expect(traffic.faults).toEqual([]);
    expect(logs.flatMap((log) => log.split("\n").filter((line) => line.includes('"rpc failed"')))).toEqual([]);

    await eventually(async () => {
      const [row] = await installation.query(`select count(*) as left from vm where phase <> $1 or desired <> 1`, [Phase.PHASE_RUNNING]);
      return row?.["left"] === "0" || undefined;
    });
    const kept = [...traffic.acknowledged].filter(([id]) => !traffic.deleted.has(id));
    const rows = await installation.query("select id, name, epoch from vm");
    expect(new Map(rows.map(({ id, name }) => [id, name]))).toEqual(
      new Map([...stood.map(({ id, name }) => [id, name] as const), ...kept]),
    );

    // Each was started once, by one node.
    expect(rows.filter(({ epoch }) => epoch !== "1")).toEqual([]);
    const starts = (await Promise.all(traces.map(startsIn))).flat();
    expect(starts.length).toBe(new Set(starts).size);
    expect(starts).toEqual(expect.arrayContaining(rows.map(({ id }) => id)));

    const events = (
      await installation.query("select vm_id || ' ' || revision as event from vm_event where seq > $1 order by txid, seq", [
        baseline?.["seq"],
      ])
    ).map(({ event }) => event);
    for (const watch of watches) {
      await expect.poll(() => watch.seen.length, { timeout: 20_000 }).toBeGreaterThanOrEqual(events.length);
      expect(watch.seen).toEqual(events);
      expect(watch.faults).toEqual([]);
      expect(watch.resumed).toBeGreaterThanOrEqual(1);
    }

    const [longest] = [...observer.longestLockMs].toSorted(([, one], [, other]) => other - one);
    console.log(
      `${traffic.acknowledged.size} VMs made, ${traffic.deleted.size} removed, ${traffic.repeats} calls repeated, the longest ${Math.round(traffic.longestMs)} ms; ` +
        `${events.length} events; ${watches.map(({ resumed }) => resumed).join(" and ")} times resumed; longest lock ${Math.round(longest?.[1] ?? 0)} ms (${longest?.[0] ?? "none seen"}, ` +
        `${observer.looks} looks); a node without a link ${Math.round(observer.longestUnlinkedMs)} ms`,
    );
    expect(longest?.[1] ?? 0).toBeLessThan(lockLimitMs);
    expect(observer.longestUnlinkedMs).toBeLessThan(relinkLimitMs);
    const [lost] = await installation.query("select count(*) as nodes from node_session where lost_time is not null");
    expect(lost).toEqual({ nodes: "0" });
  },
);
