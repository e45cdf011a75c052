// Makes and deletes VMs on a whole Pitwall, and tells what is there afterwards that was not there before.
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { Pitwall, type Vm } from "@pitwall/sdk";
import { run } from "../support/run.ts";
import { startTestStack, type TestStack } from "../support/stack.ts";
import { difference, isAmiss, type Lists } from "./difference.ts";
import { residentBytes, type Family } from "./family.ts";
import { startSimulatedNodes } from "./fleet.ts";
import { hostLists } from "./host.ts";
import { openMemoryLog, type MemoryOf } from "./memory.ts";
import { Ports } from "./ports.ts";
import { countRows, kept, rowLists } from "./rows.ts";
import { comeAndGo, echo } from "./workload.ts";

const settledMs = 12_000; // idle connections to the database are closed after 10 s
const settleLimitMs = 90_000;
const lookEveryMs = 1_000;
const simulatedNodes = 9;
const projectCount = 4;
const undeleteWindowMs = 1_500;
const visitEvery = 10;
const never = new AbortController().signal;

export interface LeaksOptions {
  readonly vms: number;
  /** `sim`: many nodes in one process. `sim-process`: a process per VM. `qemu`: real ones. */
  readonly driver: "sim" | "sim-process" | "qemu";
  readonly concurrency: number;
  /** Nobody else uses this network namespace. */
  readonly isAlone: boolean;
  readonly say: (text: string) => void;
  /** How long what is left may take to go; default 90,000. */
  readonly patienceMs?: number;
  /** Aborted, no more VMs are made; those that came and went are looked at all the same. */
  readonly signal?: AbortSignal;
  /** Called on the way, with the installation: what it leaves behind must be found. */
  readonly meddle?: (pitwall: TestStack) => Promise<void>;
}

export interface LeaksResult {
  readonly driver: string;
  /** That came and went. */
  readonly vms: number;
  readonly seconds: number;
  /** What differs and should not; empty is the goal. */
  readonly left: readonly string[];
  /** What was there before and is not needed, such as an idle connection. */
  readonly gone: readonly string[];
  /** Rows that there are more of before their time is over, by table, and how long they are kept. */
  readonly kept: Readonly<Record<string, string>>;
  readonly memory: Readonly<Record<string, MemoryOf>>;
}

export async function findLeaks(options: LeaksOptions): Promise<LeaksResult> {
  const { vms, driver, concurrency, isAlone, say, patienceMs = settleLimitMs, signal = never } = options;
  await using parts = new AsyncDisposableStack();
  const dir = await temporaryFolder(parts);
  const pitwall = parts.use(await startTestStack({ env: environment(driver, dir) }));
  const { stack, query, image, ssh } = pitwall;
  const roots = new Map(Object.entries(stack.services).map(([name, service]) => [name, service.pid() ?? 0]));
  roots.set("postgres", await postmaster(stack.stateDir));
  if (driver === "sim") roots.set("fleet", parts.use(await startSimulatedNodes(stack, simulatedNodes)).pid);
  const family: Family = { dir, roots };
  const ports = new Ports({ ...stack.ports, postgres: await databasePort(stack.stateDir) });
  const token = cached(() => stack.token());
  const client = new Pitwall({ endpoint: stack.endpoint, token });
  const visit = async (vm: Vm, index: number): Promise<void> => {
    if (driver === "qemu") {
      const { code, stderr } = await run([...ssh.commandFor(vm.id), "true"]);
      if (code !== 0) throw new Error(`ssh to VM ${vm.id} ended with ${code}: ${stderr}`);
    } else if (index % visitEvery === 0) await echo(stack.ports.web, await token(), vm);
  };
  const memory = openMemoryLog(() => residentBytes(family));
  const round = async (count: number, prefix: string): Promise<number> => {
    const projects = await makeProjects(client, prefix);
    const onDone = (done: number): void => progress(say, memory, done, count);
    const made = await comeAndGo({ ...{ client, count, concurrency, projects, image, visit, onDone, signal } });
    for (const project of projects) await client.projects.delete(project);
    return made;
  };
  const everything = async (but: Readonly<Record<string, unknown>>): Promise<Lists> => ({
    ...(await hostLists(family, ports, isAlone)),
    ...(await rowLists(query, but)),
  });

  say("making and deleting some VMs first, so that caches and connections are there");
  await round(Math.min(vms, 3 * concurrency), "warm");
  const before = await unchanging(() => everything(kept), say);
  const rowsBefore = await countRows(query);
  memory.begin();
  const startedMs = performance.now();
  const made = await round(vms, "leaks");
  const seconds = (performance.now() - startedMs) / 1_000;
  await options.meddle?.(pitwall);
  say(`${made} VMs came and went in ${seconds.toFixed(1)} s; waiting for what takes its time`);
  const differs = await untilSame(before, () => everything(kept), patienceMs);
  const left = differs.filter(isAmiss);
  const rowsAfter = await countRows(query);
  memory.end();
  return {
    driver,
    vms: made,
    seconds: Math.round(seconds * 10) / 10,
    left: [...left, ...(await afterTheWindows(pitwall, rowsBefore))],
    gone: differs.filter((line) => !isAmiss(line)),
    kept: Object.fromEntries(
      Object.entries(kept).map(([table, time]) => [table, `${(rowsAfter[table] ?? 0) - (rowsBefore[table] ?? 0)} more, kept ${time}`]),
    ),
    memory: memory.result(),
  };
}

/** All files of the run, those that services make for a moment as well. */
async function temporaryFolder(parts: AsyncDisposableStack): Promise<string> {
  const usual = process.env["TMPDIR"];
  const dir = await mkdtemp(join(tmpdir(), "pitwall-leaks-"));
  parts.defer(() => rm(dir, { recursive: true, force: true }));
  process.env["TMPDIR"] = dir;
  parts.defer(() => {
    if (usual === undefined) delete process.env["TMPDIR"];
    else process.env["TMPDIR"] = usual;
  });
  return dir;
}

type StackEnv = NonNullable<NonNullable<Parameters<typeof startTestStack>[0]>["env"]>;

function environment(driver: LeaksOptions["driver"], dir: string): StackEnv {
  const node = {
    qemu: { PITWALL_DRIVER: "qemu" },
    "sim-process": { PITWALL_DRIVER: "sim" },
    sim: { PITWALL_SIMULATE: "true" },
  }[driver];
  return {
    controller: { PITWALL_READS_PER_SECOND: "0", PITWALL_CHANGES_PER_SECOND: "0" },
    node: { ...node, PITWALL_CACHE_DIR: join(dir, "cache") },
  };
}

/** One of them keeps what was deleted for a moment. */
async function makeProjects(client: Pitwall, prefix: string): Promise<string[]> {
  const names = Array.from({ length: projectCount }, (_, index) => `${prefix}-${index}`);
  for (const [index, name] of names.entries()) {
    await client.projects.create(name);
    if (index === 0) await client.projects.update(name, { undeleteWindowMs });
  }
  return names;
}

/** With the retention moved to nothing, what is remembered must go as well. Of the audit log nothing does. */
async function afterTheWindows({ stack, query }: TestStack, before: Readonly<Record<string, number>>): Promise<string[]> {
  const { controller } = stack.services;
  const pid = controller.pid() ?? 0;
  controller.setEnv({ PITWALL_KEEP_ANSWERS: "1s", PITWALL_KEEP_EVENTS: "1s" });
  process.kill(pid, "SIGTERM");
  const passing = Object.keys(kept).filter((table) => !table.startsWith("audit_"));
  const grown = async (): Promise<string[]> => {
    const counts = await countRows(query).catch(() => undefined); // its server starts again as well
    if (!counts) return passing;
    return passing.filter((table) => (counts[table] ?? 0) > (before[table] ?? 0));
  };
  const deadline = performance.now() + settleLimitMs;
  let left = await grown();
  for (; left.length > 0 && performance.now() < deadline; left = await grown()) await delay(lookEveryMs);
  return left.map((table) => `rows: ${table} still has more than before, after its time`);
}

/** The lists once they have not changed for a while. */
async function unchanging(look: () => Promise<Lists>, say: (text: string) => void): Promise<Lists> {
  const deadline = performance.now() + settleLimitMs;
  let last = await look();
  for (let since = performance.now(); performance.now() - since < settledMs;) {
    await delay(lookEveryMs);
    const now = await look();
    const changes = difference(last, now);
    if (changes.length > 0) since = performance.now();
    last = now;
    if (performance.now() < deadline) continue;
    if (changes.length > 0) say(`something does not come to rest: ${changes.join("; ")}`);
    break;
  }
  return last;
}

/** What differs still when nothing that does is amiss, or there has been time for everything. */
async function untilSame(before: Lists, look: () => Promise<Lists>, patienceMs: number): Promise<string[]> {
  const deadline = performance.now() + patienceMs;
  for (;;) {
    const differs = difference(before, await look());
    if (!differs.some(isAmiss) || performance.now() > deadline) return differs;
    await delay(lookEveryMs);
  }
}

function progress(say: (text: string) => void, memory: ReturnType<typeof openMemoryLog>, done: number, count: number): void {
  if (done % Math.max(1, Math.floor(count / 40)) === 0) memory.look();
  if (done % Math.max(1, Math.floor(count / 10)) === 0) say(`${done}/${count}: ${memory.words()}`);
}

/** A token is good for minutes; asking for one is work for the issuer. */
function cached(ask: () => Promise<string>): () => Promise<string> {
  let known: { readonly token: Promise<string>; readonly atMs: number } | undefined;
  return () => {
    if (!known || performance.now() - known.atMs > 30_000) known = { token: ask(), atMs: performance.now() };
    return known.token;
  };
}

async function postmaster(stateDir: string): Promise<number> {
  return Number((await postmasterLines(stateDir))[0]);
}

async function databasePort(stateDir: string): Promise<number> {
  return Number((await postmasterLines(stateDir))[3]);
}

async function postmasterLines(stateDir: string): Promise<string[]> {
  return (await readFile(join(stateDir, "controller", "postgres", "data", "postmaster.pid"), "utf8")).split("\n");
}
