// `npm run node-vm`: a shell, or one command, in a virtual machine that plays a production host.
import { once } from "node:events";
import { constants } from "node:os";
import { provideNodeVm } from "@pitwall/quickstart";
import { messageChain } from "@pitwall/runtime";
import type { ClientChannel } from "ssh2";
import { help, parseNodeVmArguments, type NodeVmArguments } from "./arguments.ts";
import { repository, startNodeVm, startNodeVmPair, type NodeVm, type NodeVmOptions } from "./support/node-vm.ts";

/** Instead of an exit code: the machine was switched off from within. */
const powerOff = -1;
const say = (text: string): void => void process.stderr.write(`${text}\n`);

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  say(`error: ${messageChain(error)}`);
  process.exitCode = 1;
}
process.exit();

async function main(args: readonly string[]): Promise<number> {
  const parsed = parseNodeVmArguments(args, process.env["INIT_CWD"] ?? process.cwd());
  if (parsed.help) {
    process.stdout.write(help);
    return 0;
  }
  const stop = new AbortController();
  const told = untilTold();
  void told.then((code) => stop.abort(code));
  const image = await provideNodeVm(say);
  const { memMib, cpus, diskFile, isPair } = parsed;
  const options: NodeVmOptions = {
    ...{ image, memMib, cpus, shares: [repository, ...parsed.shares], signal: stop.signal },
    ...(diskFile !== undefined && { diskFile }),
  };
  say(`starting ${isPair ? "two node VMs" : "a node VM"}`);
  await using parts = new AsyncDisposableStack();
  const started = isPair ? startNodeVmPair(options).then((pair) => parts.use(pair).a) : startNodeVm(options).then((one) => parts.use(one));
  const vm = await started.catch((error: unknown) => (stop.signal.aborted ? undefined : Promise.reject(error)));
  if (!vm) return await told;
  say(`${vm.name} is up (${(vm.bootMs / 1000).toFixed(1)} s)`);
  const code = await Promise.race([work(vm, parsed), told, vm.ended.then((words) => ended(words))]);
  // What a kept disk has not got yet, it gets now.
  if (diskFile !== undefined && code !== powerOff) await vm.shutDown();
  return code === powerOff ? 0 : code;
}

function ended(words: string): number {
  if (words !== "") say(words);
  return powerOff;
}

async function work(vm: NodeVm, { command, json }: NodeVmArguments): Promise<number> {
  const [line = ""] = command;
  const words = command.length === 1 ? line : command;
  if (json) {
    const { code, signal, stdout, stderr } = await vm.run(words, {
      input: process.stdin.isTTY ? "" : process.stdin,
      timeoutMs: 2 ** 31 - 1,
    });
    process.stdout.write(`${JSON.stringify({ node: vm.name, bootMs: vm.bootMs, code: exitCode(code, signal), stdout, stderr })}\n`);
    return exitCode(code, signal);
  }
  const isTerminal = process.stdin.isTTY && process.stdout.isTTY;
  const pty = () => ({ term: process.env["TERM"] ?? "dumb", cols: process.stdout.columns, rows: process.stdout.rows });
  if (command.length > 0) return attach((await vm.open(words, isTerminal ? pty() : undefined)).channel, isTerminal);
  return attach(isTerminal ? await vm.login(pty()) : (await vm.open("exec bash")).channel, isTerminal);
}

/** Joins our terminal, or what stands for it, with a channel; its exit code. */
async function attach(channel: ClientChannel, isTerminal: boolean): Promise<number> {
  let how = exitCode(undefined, undefined);
  channel.on("exit", (code: number | null, signal?: string) => (how = exitCode(code ?? undefined, signal)));
  const closed = once(channel, "close");
  if (isTerminal) {
    process.stdin.setRawMode(true);
    process.stdout.on("resize", () => channel.setWindow(process.stdout.rows, process.stdout.columns, 0, 0));
  }
  process.stdin.pipe(channel).on("error", () => undefined); // it may end without reading
  channel.pipe(process.stdout);
  channel.stderr.pipe(process.stderr);
  try {
    await closed;
  } finally {
    if (isTerminal) process.stdin.setRawMode(false);
    process.stdin.unpipe(channel);
  }
  return how;
}

/** As a shell numbers the end of a program; 255 when the machine has gone meanwhile. */
function exitCode(code: number | undefined, signal: string | undefined): number {
  if (code !== undefined) return code;
  const number = Object.entries(constants.signals).find(([name]) => name === signal)?.[1];
  return number === undefined ? 255 : 128 + number;
}

function untilTold(): Promise<number> {
  return new Promise((resolve) => {
    for (const name of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.once(name, () => resolve(128 + constants.signals[name]));
  });
}
