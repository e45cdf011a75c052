// ssh: bulk, logins and echoes through the gateway, against OpenSSH's ProxyJump with the same cipher to the same sshd on this machine.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { installPackages, provision } from "@pitwall/quickstart";
import { idleSessions } from "./ssh-idle.ts";
import { median, percentile, round, type BenchOptions, type Metric } from "./measure.ts";
import { cpuMsOf } from "./processes.ts";
import { peerCommands } from "./ssh-peers.ts";
import { startSshWorld, type SshWorld, type Way } from "./ssh-world.ts";

const mib = 2 ** 20;
const ways = ["door", "jump", "peer"] as const;
type Each = Readonly<Record<Way, number>>;
const loginsAtOnce = 8;
/** Of the gateway's memory, for a session that does nothing. */
const idleGoalKib = 100;

export async function ssh({ quick, say }: BenchOptions): Promise<Readonly<Record<string, Metric>>> {
  await provision(say);
  await installPackages(peerCommands, say);
  await using world = await startSshWorld();
  const rounds = quick ? 3 : 7;
  const bytes = (quick ? 64 : 256) * mib;
  const empty = await eachWay(world, 3 * rounds, (line) => timed([...line, "true"]));
  say(`login and nothing else: ${inWords(empty, "ms")}`);
  // Of a login, and of what the command itself takes, nothing is in these.
  const bulk = async (command: (line: readonly string[]) => string): Promise<Each> => {
    const took = await eachWay(world, rounds, (line) => timed(["sh", "-c", command(line)]));
    return each((way) => bytes / mib / ((took[way] - empty[way]) / 1_000));
  };
  const up = await bulk((line) => `head -c ${bytes} /dev/zero | ${line.join(" ")} 'cat >/dev/null'`);
  say(`bulk up: ${inWords(up, "MiB/s")}`);
  const down = await bulk((line) => `${line.join(" ")} 'head -c ${bytes} /dev/zero' >/dev/null`);
  say(`bulk down: ${inWords(down, "MiB/s")}`);
  const echo = await eachWay(world, 1, (line) => echoMs(line, quick ? 300 : 2_000));
  say(`echo of a byte: ${inWords(echo, "ms")}`);
  const logins = quick ? 80 : 400;
  const perCore = { door: await loginsPerCore(world, "door", logins), jump: await loginsPerCore(world, "jump", logins) };
  say(`logins for a second of the gateway's CPU: door ${perCore.door.toFixed(0)}, jump ${perCore.jump.toFixed(0)}`);

  const idle = await idleSessions(world, quick ? 20 : 100, async () => {
    const took: number[] = [];
    for (let n = 0; n < rounds; n++) took.push(await timed(world.line("door", "true")));
    return median(took);
  });
  const idleCount = (quick ? 20 : 100) * 10;
  say(
    `${idleCount} idle sessions: ${idle.kibPerSession.toFixed(1)} KiB of the gateway each; a login beside them takes ` +
      `${idle.besideMs.toFixed(0)} ms, ${idle.aloneMs.toFixed(0)} ms without them`,
  );

  const against = (figures: Each, way: Way, goal: number, n: number, isAtLeast: boolean): Metric => {
    const value = round(figures[way] / figures.peer);
    return {
      value,
      unit: "ratio",
      goal,
      ok: isAtLeast ? value >= goal : value <= goal,
      n,
      raw: { [way]: round(figures[way]), peer: round(figures.peer) },
    };
  };
  return {
    bulk_up: against(up, "jump", 1, rounds, true),
    bulk_down: against(down, "jump", 1, rounds, true),
    door_bulk_up: against(up, "door", 1, rounds, true),
    door_bulk_down: against(down, "door", 1, rounds, true),
    connects_per_core: { value: round(perCore.jump), unit: "1/s", goal: 100, ok: perCore.jump >= 100, n: logins, raw: perCore },
    idle_session: {
      ...{ value: round(idle.kibPerSession), unit: "KiB", goal: idleGoalKib, ok: idle.kibPerSession <= idleGoalKib, n: idleCount },
    },
    login_beside_idle: {
      ...{ value: round(idle.besideMs / idle.aloneMs), unit: "ratio", goal: 1.5, ok: idle.besideMs <= 1.5 * idle.aloneMs, n: rounds },
      raw: { beside: round(idle.besideMs), alone: round(idle.aloneMs) },
    },
    echo_p50: against(echo, "jump", 1.3, quick ? 300 : 2_000, false),
    door_echo_p50: against(echo, "door", 1.3, quick ? 300 : 2_000, false),
  };
}

const each = (figure: (way: Way) => number): Each => ({ door: figure("door"), jump: figure("jump"), peer: figure("peer") });

const inWords = (figures: Each, unit: string): string => ways.map((way) => `${way} ${figures[way].toFixed(2)} ${unit}`).join(", ");

/** The medians, of rounds in which every way has its turn. */
async function eachWay(world: SshWorld, rounds: number, measure: (line: readonly string[]) => Promise<number>): Promise<Each> {
  const found: Record<Way, number[]> = { door: [], jump: [], peer: [] };
  for (let at = 0; at < rounds; at++) for (const way of ways) found[way].push(await measure(world.line(way)));
  return each((way) => median(found[way]));
}

/** Milliseconds until it has ended. Throws when it failed. */
async function timed([program = "", ...args]: readonly string[]): Promise<number> {
  const begun = performance.now();
  const child = spawn(program, args, { stdio: ["ignore", "ignore", "inherit"] });
  const [code] = (await once(child, "exit")) as [number | null];
  if (code !== 0) throw new Error(`${program} ${args.join(" ")} ended with code ${code}`);
  return performance.now() - begun;
}

/** The median of the milliseconds until a byte is back. */
async function echoMs([program = "", ...args]: readonly string[], times: number): Promise<number> {
  const child = spawn(program, [...args, "cat"], { stdio: ["pipe", "pipe", "inherit"] });
  const took: number[] = [];
  for (let at = 0; at < times; at++) {
    const begun = performance.now();
    child.stdin.write("x");
    await once(child.stdout, "data");
    if (at > 0) took.push(performance.now() - begun); // the first one waits for the login
  }
  child.stdin.end();
  await once(child, "exit");
  return percentile(took, 0.5);
}

async function loginsPerCore(world: SshWorld, way: Way, logins: number): Promise<number> {
  const beforeMs = await cpuMsOf(world.gatewayPid);
  let left = logins;
  const work = async (): Promise<void> => {
    while (left-- > 0) await timed(world.line(way, "true"));
  };
  await Promise.all(Array.from({ length: loginsAtOnce }, work));
  return logins / (((await cpuMsOf(world.gatewayPid)) - beforeMs) / 1_000);
}
