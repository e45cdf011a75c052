// `npm run bench -- hostile`: what good clients wait for beside clients that mean harm, and what those leave in the gateway's memory.
//
// The gateways under attack have one core. The other one is everybody else's: good clients, upstreams, the VM's sshd; attackers have what is
// left of it (SCHED_IDLE), so that they slow nobody but the gateway.
import { execFileSync } from "node:child_process";
import { setTimeout as sleep } from "node:timers/promises";
import { installPackages, provision } from "@pitwall/quickstart";
import { nodeArguments } from "@pitwall/runtime";
import { z } from "zod";
import { startChild, type Child } from "./control-child.ts";
import { openIssuer } from "./gateway-issuer.ts";
import { provideBackend, startBackend } from "./gateway-peers.ts";
import type { Target } from "./hostile-attack.ts";
import { openSshClient, openWebClient, type GoodClient, type Waits } from "./hostile-good.ts";
import { smuggle } from "./hostile-smuggling.ts";
import { percentile, round, type BenchOptions, type Metric } from "./measure.ts";
import { cpuMsOf, residentKib } from "./processes.ts";
import { peerCommands } from "./ssh-peers.ts";
import { startSshWorld } from "./ssh-world.ts";

const gatewayCore = 0;
const otherCore = 1;
const goals = { ratio: 2, growthMib: 64, returnsMib: 16 };
const sampleMs = 50;
/** A round of ordinary work after which memory has grown by less has reached what such work takes. */
const settledMib = 2;
const mostRounds = 8;
/** Each attack has addresses of its own: the gateway remembers for a while what came from one. */
const sourcesEach = 4;
const webAttacks = [
  ...[
    "silent",
    "slowLoris",
    "smallFrames",
    "rapidReset",
    "madeYouReset",
    "continuation",
    "headerLists",
    "settings",
    "pings",
    "socketPings",
    "unread",
  ],
] as const;
const sshAttacks = ["silent", "passwords", "windowOverruns"] as const;

/** A port, who works there, and what serves it. */
interface Door {
  readonly name: string;
  readonly good: GoodClient;
  readonly pid: number;
  readonly target: Omit<Target, "sources">;
}

/** Of one attack. */
interface Outcome {
  readonly name: string;
  readonly quiet: Waits;
  readonly beside: Waits;
  readonly growthMib: number;
  /** When good clients had gone on alone for a while. */
  readonly lateMib: number;
  /** Of its core, that the gateway used: quiet, and beside. */
  readonly busy: { readonly quiet: number; readonly beside: number };
  readonly did: { readonly connections: number; readonly sent: number };
}

export async function hostile({ quick, say }: BenchOptions): Promise<Readonly<Record<string, Metric>>> {
  const times = quick ? { quietMs: 800, besideMs: 1_200, calmMs: 800, warmMs: 600 } : quiteLong;
  await provision(say);
  await installPackages({ ...peerCommands, taskset: "util-linux" }, say);
  const backendProgram = await provideBackend(say);
  pin(process.pid, otherCore);
  await using stack = new AsyncDisposableStack();
  const issuer = stack.use(await openIssuer());
  const backend = stack.use(await startBackend(otherCore, backendProgram));
  const child = stack.use(startChild("gateway-child.ts", gatewayCore, nodeArguments("gateway")));
  const { audience, token, url } = issuer;
  const { port } = z.object({ port: z.number() }).parse(await child.ask({ backend: backend.port, issuer: url, audience }));
  const world = stack.use(await startSshWorld({ PITWALL_SSH_PENALTY_EXEMPT: "127.0.0.1" }));
  pin(world.gatewayPid, gatewayCore);
  const attacker = stack.use(startChild("hostile-attacker.ts", otherCore));
  execFileSync("chrt", ["--all-tasks", "--idle", "--pid", "0", String(attacker.pid)], { stdio: "ignore" });
  const { username, key } = world.door;
  const web: Door = {
    ...{ name: "web", pid: child.pid, target: { port, token, username, key } },
    good: stack.use(await openWebClient(port, token)),
  };
  const ssh: Door = {
    ...{ name: "ssh", pid: world.gatewayPid, target: { port: world.door.port, token, username, key } },
    good: stack.use(await openSshClient(world)),
  };

  /** Of the web gateway, without garbage. V8 gives back late what that took. */
  const collectedKib = async (): Promise<number> => {
    await child.ask({ isCollected: true });
    return residentKib(child.pid);
  };
  await warm(web, 16, times.warmMs);
  const before = await collectedKib();
  await warm(web, 16, times.warmMs);
  await warm(ssh, 4, times.warmMs);
  const outcomes: Outcome[] = [];
  let left = 0;
  for (const [door, attacks] of [[web, webAttacks] as const, [ssh, sshAttacks] as const]) {
    for (const attack of attacks) {
      const sources = Array.from({ length: sourcesEach }, (_, at) => `127.0.${outcomes.length + 1}.${at + 1}`);
      const outcome = await judge(door, attack, sources, attacker, times);
      say(inWords(outcome));
      outcomes.push(outcome);
    }
    if (door === web) left = ((await collectedKib()) - before) / 1024;
  }
  const { tried, passed } = await smuggle(port);
  for (const one of passed) say(`not refused: ${one}`);
  return { ...metricsOf(outcomes, left), smuggling_refused: atLeast(tried - passed.length, tried) };
}

const quiteLong = { quietMs: 5_000, besideMs: 15_000, calmMs: 8_000, warmMs: 5_000 };

/** Ordinary work makes a process grow as well, up to a point, which is not the attackers'. */
async function warm({ good, pid }: Door, atOnce: number, roundMs: number): Promise<void> {
  for (let turn = 0, before = 0; turn < mostRounds; turn++) {
    await Promise.all(Array.from({ length: atOnce }, () => good.work(roundMs)));
    await good.move?.();
    const now = await residentKib(pid);
    if (now - before < settledMib * 1024) return;
    before = now;
  }
}

async function judge(door: Door, attack: string, sources: readonly string[], attacker: Child, times: typeof quiteLong): Promise<Outcome> {
  const { good, pid, target } = door;
  const quietly = await busyWhile(pid, () => good.work(times.quietMs));
  const before = await residentKib(pid);
  let most = before;
  let isOver = false;
  const sampled = (async () => {
    for (; !isOver; await sleep(sampleMs)) most = Math.max(most, await residentKib(pid));
  })();
  await attacker.ask({ attack, target: { ...target, sources } });
  const attacked = await busyWhile(pid, () => good.work(times.besideMs));
  const did = z.object({ connections: z.number(), sent: z.number() }).parse(await attacker.ask({}));
  isOver = true;
  await sampled;
  await good.work(times.calmMs);
  const late = (await residentKib(pid)) - before;
  return {
    ...{ name: `${door.name}_${attack}`, quiet: quietly.waits, beside: attacked.waits, did },
    ...{
      growthMib: (most - before) / 1024,
      lateMib: late / 1024,
      busy: { quiet: quietly.busy, beside: attacked.busy },
    },
  };
}

async function busyWhile(pid: number, work: () => Promise<Waits>): Promise<{ waits: Waits; busy: number }> {
  const [begun, before] = [performance.now(), await cpuMsOf(pid)];
  const waits = await work();
  return { waits, busy: ((await cpuMsOf(pid)) - before) / (performance.now() - begun) };
}

const p99 = (waits: readonly number[]): number => (waits.length === 0 ? Infinity : percentile(waits, 0.99));
const ways = ["kept", "fresh"] as const;
const ratioOf = ({ quiet, beside }: Outcome, way: (typeof ways)[number]): number => p99(beside[way]) / p99(quiet[way]);

function inWords(outcome: Outcome): string {
  const { name, quiet, beside, growthMib, lateMib, busy, did } = outcome;
  const waits = ways.map((way) => `${way} ${p99(quiet[way]).toFixed(2)} → ${p99(beside[way]).toFixed(2)} ms (of ${beside[way].length})`);
  return (
    `${name}: p99 ${waits.join(", ")}; ${beside.failed} not served; memory +${growthMib.toFixed(0)} MiB, ` +
    `then +${lateMib.toFixed(0)}; core ${(100 * busy.quiet).toFixed(0)} → ${(100 * busy.beside).toFixed(0)} %; ${did.connections} connections, ${did.sent} sent`
  );
}

/** `leftMib` of the web gateway, after all attacks on it. */
function metricsOf(outcomes: readonly Outcome[], leftMib: number): Readonly<Record<string, Metric>> {
  const ratios: Record<string, number> = {};
  for (const outcome of outcomes)
    for (const way of ways) {
      ratios[`${outcome.name}_${way}`] = round(ratioOf(outcome, way));
      ratios[`${outcome.name}_${way}_quiet_ms`] = round(p99(outcome.quiet[way]));
      ratios[`${outcome.name}_${way}_beside_ms`] = round(p99(outcome.beside[way]));
    }
  for (const { name, busy } of outcomes) {
    ratios[`${name}_core_quiet`] = round(busy.quiet);
    ratios[`${name}_core_beside`] = round(busy.beside);
  }
  const worst = Math.max(...outcomes.flatMap((outcome) => ways.map((way) => ratioOf(outcome, way))));
  const each = (figure: (outcome: Outcome) => number): Record<string, number> =>
    Object.fromEntries(outcomes.map((outcome) => [outcome.name, round(figure(outcome))]));
  const most = (unit: string, goal: number, raw: Record<string, number>): Metric => {
    const value = Math.max(...Object.values(raw));
    return { value, unit, goal, ok: value <= goal, n: outcomes.length, raw };
  };
  const least = (raw: Record<string, number>): Metric => ({ ...atLeast(Math.min(...Object.values(raw)), 1), n: outcomes.length, raw });
  const ssh = outcomes.filter(({ name }) => name.startsWith("ssh_"));
  const returns = most("MiB", goals.returnsMib, {
    web: round(leftMib),
    ...Object.fromEntries(ssh.map(({ name, lateMib }) => [name, round(lateMib)])),
  });
  const late = Object.fromEntries(outcomes.map(({ name, lateMib }) => [`${name}_late`, round(lateMib)]));
  const failed = each(({ quiet, beside }) => quiet.failed + beside.failed);
  return {
    p99_ratio_worst: { value: round(worst), unit: "×", goal: goals.ratio, ok: worst <= goals.ratio, n: outcomes.length, raw: ratios },
    rss_growth_mib: most(
      "MiB",
      goals.growthMib,
      each(({ growthMib }) => growthMib),
    ),
    rss_returns_mib: { ...returns, raw: { ...returns.raw, ...late } },
    not_served: most("", 0, failed),
    // The attackers must have come at all.
    attack_connections: least(each(({ did }) => did.connections)),
  };
}

function atLeast(value: number, goal: number): Metric {
  return { value, unit: "", goal, ok: value >= goal, n: goal };
}

/** All its threads; processes that it starts from now on stay there, too. */
function pin(pid: number, core: number): void {
  execFileSync("taskset", ["--all-tasks", "--cpu-list", "--pid", String(core), String(pid)], { stdio: "ignore" });
}
