// `npm start`: everything on one machine, one VM, and the way in.
import { spawn } from "node:child_process";
import { rm } from "node:fs/promises";
import { basename, dirname } from "node:path";
import { Desired, Phase, PitwallRpcError, type Pitwall, type Vm } from "@pitwall/sdk";
import { messageChain, systemClock } from "@pitwall/runtime";
import { help, localPath, parseStartArguments, type StartArguments } from "./arguments.ts";
import { doctor } from "./doctor.ts";
import { withProgress } from "./progress.ts";
import { provision, type Provisioned } from "./provision/provision.ts";
import { openSshAccess } from "./ssh-access.ts";
import { endLeftovers, endSurvivors } from "./stack/leftovers.ts";
import { startStack, type Stack } from "./stack/stack.ts";
import { starterImage } from "./starter-image/starter-image.ts";

const vmName = "demo";
const runningLimitMs = 180_000;
const goneLimitMs = 30_000;

const startedMs = systemClock.monotonicMs();
const say = (text: string): void => {
  process.stderr.write(`${seconds(systemClock.monotonicMs() - startedMs).padStart(7)}  ${text}\n`);
};
const stop = new AbortController();
/** Ctrl-C comes twice, from the terminal and from npm's own process; a person's second one comes later, and means it. */
const sameSignalMs = 500;
let signalledMs = -Infinity;
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
  process.on(signal, () => {
    const now = systemClock.monotonicMs();
    if (stop.signal.aborted && now - signalledMs > sameSignalMs) process.exit(130);
    signalledMs = now;
    stop.abort(new Error("stopped"));
  });
}

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  if (!stop.signal.aborted) process.stderr.write(`error: ${messageChain(error)}\n`);
  process.exitCode = stop.signal.aborted ? 130 : 1;
}
process.exit(); // a keep-alive connection must not hold a finished program

async function main(args: readonly string[]): Promise<number> {
  const options = parseStartArguments(args, process.env);
  if (options.help) {
    process.stdout.write(help);
    return 0;
  }
  if (options.prepare) return prepare();
  if (options.doctor) return (await doctor((text) => process.stdout.write(`${text}\n`))) ? 0 : 1;
  if (options.fresh) {
    await endLeftovers(options.stateDir, say);
    await endSurvivors(options.stateDir);
    await rm(options.stateDir, { recursive: true, force: true });
  }
  return run(options);
}

async function run(options: StartArguments): Promise<number> {
  const timings: Record<string, number> = {};
  const timed: Timed = async <T>(name: string, work: Promise<T>): Promise<T> => {
    const begun = systemClock.monotonicMs();
    const result = await work;
    timings[name] = Math.round(systemClock.monotonicMs() - begun);
    return result;
  };
  const provisioned = await timed("provision", provision(say));
  stop.signal.throwIfAborted();
  // The starter image takes longest and needs no service. Whatever ends this run ends its making.
  const over = new AbortController();
  const making =
    options.image === undefined
      ? timed("image", starterImage(provisioned.cacheDir, say, AbortSignal.any([stop.signal, over.signal])))
      : undefined;
  making?.catch(() => undefined); // awaited below
  try {
    return await runStack(options, provisioned, making, timings, timed);
  } finally {
    over.abort(new Error("stopped"));
    await making?.catch(() => undefined);
  }
}

type Timed = <T>(name: string, work: Promise<T>) => Promise<T>;

async function runStack(
  options: StartArguments,
  provisioned: Provisioned,
  making: Promise<string> | undefined,
  timings: Record<string, number>,
  timed: Timed,
): Promise<number> {
  const local = options.image === undefined ? undefined : localPath(options.image);
  const stack = await timed(
    "services",
    withProgress(say, "starting issuer, controller, node and gateway", () =>
      startStack({
        stateDir: options.stateDir,
        provisioned,
        imageRoots: local === undefined ? [provisioned.cacheDir] : [provisioned.cacheDir, local, dirname(local)],
        insecureRegistries: (process.env["PITWALL_INSECURE_REGISTRIES"] ?? "").split(",").filter((host) => host !== ""),
        say,
      }),
    ),
  );
  try {
    stop.signal.throwIfAborted();
    const layout = await making;
    const image = options.image ?? `oci:${layout ?? ""}:latest`;
    const ssh = await openSshAccess(stack);
    const client = stack.client();
    await client.addSshKey(ssh.publicKey);
    say(`booting ${options.image ?? "the starter image"} as ${vmName}`);
    const vm = await timed("vm", boot(client, image));
    const commandLine = ssh.commandFor(vm.name);
    await timed("ssh", proveSsh(commandLine));
    timings["total"] = Math.round(systemClock.monotonicMs() - startedMs);
    say(`${vm.name} is running: ${describeTimings(vm, timings)}`);
    if (options.json) {
      const line = { vm: vm.name, ssh: commandLine, api: stack.endpoint, token: await stack.token(), timingsMs: timings };
      process.stdout.write(`${JSON.stringify(line)}\n`);
    } else process.stdout.write(await instructions(stack, vm, commandLine, options.image === undefined));
    await new Promise<void>((resolve) => {
      if (stop.signal.aborted) resolve();
      else stop.signal.addEventListener("abort", () => resolve(), { once: true });
    });
  } finally {
    say("stopping");
    await endVms(stack.client()).catch((error: unknown) => say(`VMs may still be running: ${messageChain(error)}`));
    await stack[Symbol.asyncDispose]();
  }
  return 0;
}

/** What `pitwall node` on this machine needs, and how to tell it. */
async function prepare(): Promise<number> {
  const { kernel, modulesDir, powerunit } = await provision(say);
  process.stdout.write(`--kernel ${kernel} --modules-dir ${modulesDir} --powerunit ${powerunit}\n`);
  return 0;
}

/** The demo VM, made anew unless it is there with this image. */
async function boot(client: Pitwall, image: string): Promise<Vm> {
  const known = await client.vms.get(vmName).catch((error: unknown) => {
    if (error instanceof PitwallRpcError && error.code === "NOT_FOUND") return undefined;
    throw error;
  });
  if (known && known.phase === Phase.PHASE_RUNNING && known.desired === Desired.DESIRED_RUNNING && known.spec?.image === image)
    return known;
  if (known) {
    await client.vms.waitUntilGone(await client.vms.delete(known.id), { timeoutMs: goneLimitMs });
  }
  await client.vms.create({ name: vmName, spec: { image } });
  let last = -1;
  const vm = await client.vms.waitUntil(
    vmName,
    (seen) => {
      if (seen.phase !== last) say(`  ${phaseWord(seen.phase)}`);
      last = seen.phase;
      return seen.phase === Phase.PHASE_RUNNING || seen.phase === Phase.PHASE_FAILED;
    },
    { timeoutMs: runningLimitMs, signal: stop.signal },
  );
  if (vm.phase === Phase.PHASE_FAILED) throw new Error(`the VM failed (${vm.reason}): ${vm.message}`);
  return vm;
}

/** The way in is said to work only after it did. */
async function proveSsh([program = "ssh", ...args]: readonly string[]): Promise<void> {
  const child = spawn(program, ["-o", "BatchMode=yes", ...args, "exit 0"], { stdio: ["ignore", "ignore", "pipe"] });
  let said = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    said += text;
  });
  const code = await new Promise<number | null>((resolve) => child.once("close", resolve).once("error", () => resolve(null)));
  if (code !== 0) throw new Error(`ssh does not get in: ${said.trim()}`);
}

/** The demo is removed; VMs that somebody made keep their disks and are stopped. */
async function endVms(client: Pitwall): Promise<void> {
  const ending: Promise<unknown>[] = [];
  const limit = { timeoutMs: goneLimitMs };
  for await (const vm of client.vms.list()) {
    if (vm.name === vmName) ending.push(client.vms.delete(vm.id).then((deleted) => client.vms.waitUntilGone(deleted, limit)));
    else if (vm.desired === Desired.DESIRED_RUNNING) {
      ending.push(client.vms.stop(vm.id).then(() => client.vms.wait(vm.id, { phases: [Phase.PHASE_STOPPED], ...limit })));
    }
  }
  await Promise.all(ending);
}

function describeTimings(vm: Vm, timings: Readonly<Record<string, number>>): string {
  const steps = (["place", "pull", "convert", "prepare", "boot", "ready"] as const).flatMap((name) => {
    const took = vm.timings?.[name];
    return took ? [`${name} ${seconds(Number(took.seconds) * 1000 + took.nanos / 1e6)}`] : [];
  });
  return [...steps, `ssh ${seconds(timings["ssh"] ?? 0)}`].join(", ");
}

async function instructions(stack: Stack, vm: Vm, commandLine: readonly string[], isStarter: boolean): Promise<string> {
  const web = isStarter ? `\n  web     curl -H "authorization: Bearer $TOKEN" ${stack.endpoint}/vm/${vm.name}/80/` : "";
  return `
  vm      ${vm.name} (${basename(vm.spec?.image ?? "")})
  ssh     ${commandLine.join(" ")}${web}
  api     ${stack.endpoint}    gRPC-Web and gRPC; sign in as dev, any password, with \`npx pitwall login ${stack.endpoint}\`
  token   TOKEN=${await stack.token()}
  logs    ${stack.stateDir}/log

Ctrl-C stops everything.
`;
}

function phaseWord(phase: Phase): string {
  const word = Object.entries(Phase).find(([, value]) => value === phase)?.[0] ?? "";
  return word.replace("PHASE_", "").toLowerCase();
}

function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(ms < 10_000 ? 2 : 1)} s`;
}
