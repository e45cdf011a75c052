// Runs one schedule: the whole control plane in this process, on virtual time and a simulated network, against a real PostgreSQL.
import type { Notices } from "@pitwall/controller/src/store/notices.ts";
import { SimNode } from "@pitwall/node/src/sim/node.ts";
import { parseScript } from "@pitwall/node/src/sim/script.ts";
import { noTrace } from "@pitwall/node/src/sim/trace.ts";
import type { ImageSources } from "@pitwall/oci";
import { Phase } from "@pitwall/proto/pitwall/v1/vm.ts";
import { failpointList, seededRandom, silentLog, VirtualClock, type Log, type StepName } from "@pitwall/runtime";
import { isForeignTo } from "../checkers/checkers.ts";
import { strandedIn } from "../checkers/sim-checkers.ts";
import type { Trouble } from "../observer/history.ts";
import { areSettled } from "../observer/settled.ts";
import type { Probe, SimCall, SimHistory, SimRun } from "../observer/sim-history.ts";
import { isOfController, type Fault, type Op, type Schedule } from "../schedule/schedule.ts";
import { client, Clients, projectName } from "./clients.ts";
import { leaseMs, startSimController, type SimController } from "./controller.ts";
import type { SimDatabase } from "./database.ts";
import { Departures } from "./departures.ts";
import { Gauges } from "./gauges.ts";
import { Network } from "./network.ts";
import { SimProcess } from "./process.ts";
import { eventCount, finalVms, records } from "./records.ts";

/** By so much the ways of an uneven partition may begin one after the other. */
const headStartLimitMs = 1_700;
/** How long the calm may last. */
const calmLimitMs = 60_000;
const lookMs = 1_000;
/** For agents that are told to stop. */
const stopLimitMs = 60_000;
/** For each of the things that the probe waits for. */
const probeLimitMs = 30_000;
const probeLookMs = 250;
const gaugeMs = 500;
/** VMs take half CPUs: there is always room for the probe. */
const probeCpuMillis = 100;
const capacity = { cpuMillis: 11_100n, memBytes: 64n * 2n ** 30n, diskBytes: 2n ** 40n };
const capacityOf = { cpuMillis: Number(capacity.cpuMillis), memBytes: Number(capacity.memBytes) };
const script = parseScript("{ prepare: 5ms..200ms, boot: 20ms..2s, shutdown: 10ms..1s, kill: 1ms..300ms }");

export interface WorldParts {
  readonly database: SimDatabase;
  readonly images: ImageSources;
  readonly image: string;
  readonly log?: Log;
}

export async function runSchedule(schedule: Schedule, parts: WorldParts): Promise<SimHistory> {
  const world = new World(schedule, parts);
  try {
    return await world.run();
  } finally {
    await world.end();
  }
}

class World {
  readonly #schedule: Schedule;
  readonly #parts: WorldParts;
  readonly #clock: VirtualClock;
  readonly #controllers: (SimController | undefined)[] = [];
  readonly #nodes: SimNode[] = [];
  readonly #network: Network;
  readonly #clients: Clients;
  readonly #runs: SimRun[] = [];
  readonly #gauges = new Gauges();
  readonly #departures: Departures;
  readonly #troubles: Trouble[] = [];
  readonly #struck: StepName[] = [];
  readonly #stop = new AbortController();
  /** Faults that wait for a failpoint. */
  readonly #waiting = new DisposableStack();
  readonly #listeners = new Map<string, Set<(from: SimProcess) => void>>();
  #lives = 0;
  #underWay = 0;

  constructor(schedule: Schedule, parts: WorldParts) {
    this.#schedule = schedule;
    this.#parts = parts;
    this.#clock = new VirtualClock(() => parts.database.quiet());
    this.#departures = new Departures(this.#clock);
    const { seed, controllers } = schedule;
    const controllerAt = (index: number): SimController | undefined => this.#controllers[index];
    this.#network = new Network({ clock: this.#clock, random: seededRandom(seed, "network"), controllerAt, controllers });
    this.#clients = new Clients({ seed, clock: this.#clock, image: parts.image, controllers, controllerAt });
  }

  async run(): Promise<SimHistory> {
    const { nodes, controllers, ops, nodeOps, faults } = this.#schedule;
    await this.#parts.database.begin(() => this.#clock.monotonicMs());
    await this.#people();
    for (let index = 0; index < controllers; index++) await this.#startController(index);
    for (let index = 0; index < nodes; index++) await this.#startNode(index);
    void this.#clients.watch(this.#stop.signal);
    this.#watchGauges();
    for (const op of ops) this.#clock.after(op.atMs, () => this.#doing(this.#clients.call(op)));
    const administered = new Map(nodeOps.map(({ node }) => [node, Promise.resolve() as Promise<unknown>]));
    for (const { kind, atMs, node, controller } of nodeOps)
      this.#clock.after(atMs, () => {
        const asking = this.#clients.administer(kind, nodeId(node), controller);
        administered.set(node, Promise.all([administered.get(node), asking]));
        this.#doing(asking);
      });
    for (const fault of faults) this.#clock.after(fault.atMs, () => this.#strike(fault));
    await this.#clock.advance(Math.max(...[...ops, ...nodeOps].map(({ atMs }) => atMs), ...faults.map(({ atMs, forMs }) => atMs + forMs)));
    this.#waiting.dispose();
    // In the end every node is there for all. What was asked of it before may be on its way still.
    for (const [node, before] of administered) this.#doing(before.then(() => this.#clients.administer("uncordon", nodeId(node), 0)));
    for (let calmMs = 0; calmMs < calmLimitMs; calmMs += lookMs) {
      await this.#clock.advance(lookMs);
      if (this.#underWay === 0 && (await this.#isCalm())) break;
    }
    return this.#history(await this.#probe());
  }

  /** What is under way ends before the calm does. */
  #doing(work: Promise<unknown>): void {
    this.#underWay++;
    void work.finally(() => this.#underWay--);
  }

  async end(): Promise<void> {
    this.#stop.abort();
    for (const controller of this.#controllers) controller?.kill();
    let isStopped = false;
    const stopping = Promise.all(this.#nodes.map((node) => node[Symbol.asyncDispose]())).finally(() => (isStopped = true));
    stopping.catch(() => undefined); // awaited below
    for (let goneMs = 0; !isStopped; goneMs += lookMs) {
      if (goneMs >= stopLimitMs) throw new Error(`agents that were told to stop had not after ${stopLimitMs} ms`);
      await this.#clock.advance(lookMs);
    }
    await stopping;
  }

  /** Wake-ups between the controllers that run, as one of them has them. */
  #noticesOf(process: SimProcess): Notices {
    return {
      listen: (channel, onNotice) => {
        const known = this.#listeners.get(channel) ?? new Set();
        const listener = (from: SimProcess): void => onNotice(from === process);
        this.#listeners.set(channel, known.add(listener));
        return () => known.delete(listener);
      },
      send: (channel) => {
        this.#clock.after(1, () => {
          for (const listener of this.#listeners.get(channel) ?? []) listener(process);
        });
      },
      [Symbol.asyncDispose]: async () => undefined,
    };
  }

  async #people(): Promise<void> {
    const { database } = this.#parts;
    await database.query(
      `with made as (insert into project (id, name, personal_of, quota_vms, quota_cpu_millis, quota_mem_bytes, quota_disk_bytes,
           quota_addresses, undelete_window_ms, create_time)
         values (gen_random_uuid(), $1, $2, 10000, 1e9::bigint, 1e15::bigint, 1e17::bigint, 10000, $3, now()) returning id)
       insert into project_member (project_id, subject, role, create_time) select id, $2, 'owner', now() from made`,
      [projectName, client.subject, this.#schedule.undeleteWindowMs],
    );
  }

  async #startController(index: number): Promise<void> {
    const { database, images, log = silentLog } = this.#parts;
    const process = new SimProcess(this.#clock, database.store, seededRandom(this.#schedule.seed, "controller", index, this.#lives++));
    this.#controllers[index] = await startSimController({
      ...{ process, notices: this.#noticesOf(process), images, log },
      linkAt: (id, node) => this.#controllers.find((controller) => controller?.id === id)?.links.here(node),
    });
  }

  async #startNode(index: number): Promise<void> {
    const { database, log = silentLog } = this.#parts;
    const name = `sim-${index}`;
    const id = nodeId(index);
    await database.query(
      `with joined as (insert into member (id, role, name, create_time, certificate_expire_time) values ($1, 'node', $2, now(), now()) returning id)
       insert into node (id, name, create_time) select id, $2, now() from joined`,
      [id, name],
    );
    const node = new SimNode({
      ...{ name, clock: this.#clock, seed: this.#schedule.seed, script, capacity, bootLimitMs: 30_000, trace: noTrace, log },
      dial: this.#network.dialFrom(index, id),
      openTunnels: () => ({ open: async () => undefined, close: () => undefined }),
    });
    node.host.onSpawn = ({ dir, identity: { pid }, exited }) => {
      const vm = dir.slice(dir.lastIndexOf("/") + 1);
      const run: SimRun = { vm, node: id, fromMs: this.#clock.monotonicMs(), toMs: undefined, dir, pid };
      this.#runs.push(run);
      void exited.then(() => (run.toMs = this.#clock.monotonicMs()));
    };
    this.#nodes[index] = node;
    node.start();
  }

  #strike(fault: Fault): void {
    const { kind, victim, forMs, controller, step } = fault;
    if (!isOfController(fault)) {
      // When what waits at a failpoint comes, if it does, nobody knows; nor how long an administrator takes.
      const fromMs = this.#clock.monotonicMs();
      this.#troubles.push({
        node: nodeId(victim),
        fromMs,
        toMs: step !== undefined || kind === "fence" || kind === "node-gone" ? Infinity : fromMs + forMs + headStartLimitMs,
      });
    }
    const node = this.#nodes[victim];
    const target = this.#controllers[victim];
    const trouble = { node: victim, controller };
    switch (kind) {
      case "agent-crash":
        return node?.crash(forMs);
      case "power-loss":
        return node?.lose(forMs);
      case "node-gone":
        return node && this.#departures.leave(node);
      case "fence":
        return this.#doing(this.#fence(victim, forMs, controller ?? 0));
      case "controller-crash":
        return this.#crashController(victim, forMs);
      case "crash-at":
        if (step === undefined) return;
        if (failpointList[step].owner === "controller") this.#waitFor(target?.process, step, () => this.#crashController(victim, forMs));
        else this.#waitFor(node, step, () => node?.crash(forMs));
        return;
      case "disk-broken-at":
        if (step !== undefined) this.#waitFor(node, step, () => node?.host.breakDisk(forMs));
        return;
      case "controller-pause":
        return target?.process.pause(forMs);
      case "database-away":
        return target?.process.loseDatabase(forMs);
      case "partition":
        return this.#network.trouble({ ...trouble, kind: "blocked", ways: ["up", "down"] }, forMs);
      case "one-way-up":
        return this.#network.trouble({ ...trouble, kind: "blocked", ways: ["up"] }, forMs);
      case "one-way-down":
        return this.#network.trouble({ ...trouble, kind: "blocked", ways: ["down"] }, forMs);
      case "slow":
        return this.#network.trouble({ ...trouble, kind: "slow", ways: ["up", "down"] }, forMs);
      case "duplicate":
        return this.#network.trouble({ ...trouble, kind: "doubled", ways: ["up", "down"] }, forMs);
      case "late-copy":
        return this.#network.trouble({ ...trouble, kind: "late", ways: ["down"] }, forMs);
      case "uneven":
        return this.#uneven(victim, forMs);
      case "reset":
        return this.#network.reset(victim);
      case "partial-hello":
        this.#network.trouble({ ...trouble, kind: "partial", ways: ["up"] }, forMs);
        return this.#network.reset(victim);
      case "database-down":
        for (const each of this.#controllers) each?.process.loseDatabase(forMs);
        return;
      case "disk-broken":
        return node?.host.breakDisk(forMs);
      case "clock-jump":
        // As after a sleep: the clock is set, and the network not back yet. Every other time.
        if (forMs % 4 < 2) this.#network.trouble({ ...trouble, controller: undefined, kind: "blocked", ways: ["up", "down"] }, forMs);
        return node?.host.jumpClock(forMs * (forMs % 2 === 0 ? 20 : -20));
    }
  }

  /** What has not come by the begin of the calm comes no more. */
  #waitFor(victim: Pick<SimNode, "strikeAt"> | undefined, step: StepName, strike: () => void): void {
    const waiting = victim?.strikeAt(step, () => {
      this.#struck.push(step);
      strike();
    });
    if (waiting) this.#waiting.use(waiting);
  }

  /**
   * A partition whose ways begin and end at times of their own: first nothing comes down, then nothing goes up; down is open again first. Every
   * other time it begins with an answer, which comes when the node's lease is all but over.
   */
  #uneven(node: number, forMs: number): void {
    const block = (way: "up" | "down", ms: number): void =>
      this.#network.trouble({ node, controller: undefined, kind: "blocked", ways: [way] }, ms);
    if (forMs % 2 === 0)
      this.#network.afterNextHeartbeat(node, () => {
        block("down", leaseMs * 0.805 + (forMs % 200));
        block("up", forMs);
      });
    else {
      block("down", 3_000 + (forMs % 6_500));
      this.#clock.after(200 + (forMs % (headStartLimitMs - 200)), () => block("up", forMs));
    }
  }

  #crashController(index: number, forMs: number): void {
    const controller = this.#controllers[index];
    if (!controller) return;
    controller.kill();
    this.#controllers[index] = undefined;
    this.#clock.after(forMs, () => void this.#startController(index));
  }

  /** A host is switched off, an administrator says so, and once that is accepted it may be switched on again. */
  async #fence(index: number, forMs: number, controller: number): Promise<void> {
    const node = this.#nodes[index];
    if (node?.isUp !== true) return; // it may come back by itself at any time
    node.lose(undefined);
    await this.#clock.sleep(forMs / 2);
    await this.#clients.administer("fence", nodeId(index), controller);
    await this.#clock.sleep(forMs / 2);
    node.start();
  }

  #watchGauges(): void {
    const sessions = this.#controllers.flatMap((controller) => [...(controller?.sessions.all() ?? [])]);
    this.#gauges.saw("messages that wait for a node", Math.max(0, ...sessions.map(({ outbox }) => outbox.length)));
    this.#gauges.saw("messages that wait to be read", this.#network.longest);
    this.#gauges.saw("timers", this.#clock.pending);
    if (!this.#stop.signal.aborted) this.#clock.after(gaugeMs, () => this.#watchGauges());
  }

  /** Whether all is as it should be and stays so. Only saves time: what is not so is judged at the limit. */
  async #isCalm(): Promise<boolean> {
    if (!this.#areAllBack()) return false;
    const final = await finalVms(this.#parts.database);
    const living = this.#runs.filter(({ toMs }) => toMs === undefined);
    const gone = this.#gone;
    if (!areSettled(final, living, new Set(gone)) || this.#stored().some(isForeignTo(final))) return false;
    if (gone.length > 0 && strandedIn({ ...(await records(this.#parts.database)), gone, capacity: capacityOf }).length > 0) return false;
    if (this.#clients.watched.length < (await eventCount(this.#parts.database))) return false;
    // A drain has stopped them, and moves them or starts them again.
    return (await this.#parts.database.query("select from vm where moving limit 1")).length === 0;
  }

  /** What nodes have journals of, but for those that have gone. */
  #stored(): { node: string; vm: string }[] {
    const gone = this.#gone;
    const all = this.#nodes.flatMap(({ host }, index) => host.stored.map((vm) => ({ node: nodeId(index), vm })));
    return all.filter(({ node }) => !gone.includes(node));
  }

  get #gone(): string[] {
    return this.#nodes.flatMap((node, index) => (this.#departures.hasGone(node) ? [nodeId(index)] : []));
  }

  /** Without the last of what troubles them nodes may be as they should be, and stay so only until their leases are over. */
  #areAllBack(): boolean {
    const nowMs = this.#clock.monotonicMs();
    const areOver = this.#troubles.every(({ toMs }) => toMs === Infinity || toMs <= nowMs);
    const isBack = (node: SimNode, index: number): boolean =>
      this.#departures.hasGone(node) || (node.isUp && this.#controllers.some((each) => each?.links.here(nodeId(index))));
    return areOver && this.#departures.areOver && this.#nodes.every(isBack);
  }

  /** A VM that nobody had: it must come, run and go. */
  async #probe(): Promise<Probe> {
    const vm = Math.max(-1, ...this.#schedule.ops.map((op) => op.vm)) + 1;
    const ask = (kind: Op["kind"]): Promise<SimCall | undefined> =>
      this.#clients.call({ kind, vm, atMs: this.#clock.monotonicMs(), moves: false, controller: 0, cpuMillis: probeCpuMillis });
    const fromMs = this.#clock.monotonicMs();
    // It may be calm before all nodes are back: what was not made is asked for again, within the time that the probe has.
    const created = async (): Promise<void> => {
      const isMade = async (): Promise<boolean> => (await ask("create"))?.outcome === "ok";
      while (!(await isMade()) && this.#clock.monotonicMs() - fromMs < probeLimitMs) await this.#clock.sleep(lookMs);
    };
    this.#doing(created());
    const runningMs = await this.#awaited(fromMs, () => this.#clients.phaseOf(vm) === Phase.PHASE_RUNNING);
    this.#doing(ask("delete"));
    const isGone = (): boolean => this.#clients.phaseOf(vm) === Phase.PHASE_GONE;
    const goneMs = await this.#awaited(this.#clock.monotonicMs(), () => runningMs !== undefined && isGone() && this.#underWay === 0);
    await this.#clock.advance(probeLookMs); // the watch's part of what else was written
    return { runningMs, goneMs };
  }

  /** After how long it was so; undefined: it never was. */
  async #awaited(fromMs: number, holds: () => boolean): Promise<number | undefined> {
    while (this.#clock.monotonicMs() - fromMs < probeLimitMs) {
      await this.#clock.advance(probeLookMs);
      if (holds()) return this.#clock.monotonicMs() - fromMs;
    }
    return undefined;
  }

  async #history(probe: Probe): Promise<SimHistory> {
    const { database } = this.#parts;
    this.#gauges.saw("connections to the database", database.takeMostConnections());
    return {
      calls: this.#clients.calls,
      ...(await records(database)),
      runs: this.#runs,
      watched: this.#clients.watched,
      ...{ stored: this.#stored(), gone: this.#gone, capacity: capacityOf },
      troubles: this.#troubles,
      patienceMs: leaseMs * 1.5,
      resolutionMs: 0,
      peaks: this.#gauges.peaks(),
      probe,
      struck: this.#struck,
    };
  }
}

const nodeId = (index: number): string => `00000000-0000-4000-9000-${String(index).padStart(12, "0")}`;
