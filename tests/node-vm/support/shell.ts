// The way into a node VM: one SSH connection on its serial port, with a channel for each command.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { connect } from "node:net";
import { basename, dirname } from "node:path";
import type { Readable } from "node:stream";
import ssh2, { type Client, type ClientChannel, type ExecOptions, type PseudoTtyOptions } from "ssh2";
import { systemClock } from "@pitwall/runtime";

export interface ShellKeys {
  /** OpenSSH's form of the machine's host key, public. */
  readonly hostKey: string;
  readonly userKey: string;
}

export interface Ran {
  /** Undefined when a signal ended it, or the machine has gone. */
  readonly code: number | undefined;
  /** As Node names it, `SIGKILL`. */
  readonly signal: string | undefined;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunOptions {
  /** Default: nothing. */
  readonly input?: string | Buffer | Readable;
  /** Kills the command; default two minutes. A machine that does not even do that by ten seconds later is given up: `run` rejects. */
  readonly timeoutMs?: number;
}

const runLimitMs = 120_000;
const killLimitMs = 10_000;
const openLimitMs = 30_000;
/** That a timer takes. */
const longestMs = 2 ** 31 - 1;

export interface Opened {
  readonly channel: ClientChannel;
  /** Ends the command and all that it has started. */
  kill(): Promise<void>;
}

/** Closing it, or the end of the machine, ends all channels. */
export interface Shell extends Disposable {
  /** Runs words as they are, or a line of bash. Never rejects for an exit code; rejects when the machine has gone before it began. */
  run(command: string | readonly string[], options?: RunOptions): Promise<Ran>;
  /** The same with its streams, for output that is large or comes slowly. */
  open(command: string | readonly string[], pty?: PseudoTtyOptions): Promise<Opened>;
  /** A login shell. */
  login(pty: PseudoTtyOptions): Promise<ClientChannel>;
  /** Copies a file or a folder, with modes, into a folder of the machine that it makes. */
  copyIn(from: string, toFolder: string): Promise<void>;
  /** The other way. */
  copyOut(from: string, toFolder: string): Promise<void>;
}

/** In the environment of each command: what it is found by. */
const mark = "NODE_VM_RUN";

/** Resolves when the machine answers. Rejects when the signal aborts first. */
export async function openShell(socketPath: string, keys: ShellKeys, signal: AbortSignal): Promise<Shell> {
  const client = await connectOver(socketPath, keys, signal);
  client.on("error", () => undefined); // the machine has gone: the close of each channel tells
  let count = 0;
  const open: Shell["open"] = async (command, pty) => {
    const name = `${mark}=${++count}`;
    const channel = await exec(client, lineOf(command), { env: { [mark]: String(count) }, ...(pty && { pty }) });
    return {
      channel,
      // sshd passes no signals to what root runs.
      async kill() {
        const line = `kill -KILL $(grep -lzx ${name} /proc/[0-9]*/environ 2> /dev/null | cut -d/ -f3)`;
        (await exec(client, line, {})).resume().stderr.resume();
      },
    };
  };
  const run: Shell["run"] = async (command, { input = "", timeoutMs = runLimitMs } = {}) => {
    const { channel, kill } = await open(command);
    const end = endOf(channel);
    const [stdout, stderr] = [collect(channel), collect(channel.stderr)];
    using _limit = systemClock.after(timeoutMs, () => void kill().catch(() => undefined)); // the machine may have gone
    const silent = Promise.withResolvers<never>();
    using _last = systemClock.after(Math.min(timeoutMs + killLimitMs, longestMs), () =>
      silent.reject(new Error(`the node VM did not end ${lineOf(command)}`)),
    );
    channel.on("error", () => undefined);
    if (typeof input === "string" || Buffer.isBuffer(input)) channel.end(input);
    else input.pipe(channel);
    return { ...(await Promise.race([end, silent.promise])), stdout: stdout(), stderr: stderr() };
  };
  return {
    run,
    open,
    login: (pty) => new Promise((resolve, reject) => client.shell(pty, (error, channel) => (error ? reject(error) : resolve(channel)))),
    async copyIn(from, toFolder) {
      const { channel } = await open(`mkdir -p ${quote(toFolder)} && tar -C ${quote(toFolder)} -xf -`);
      const end = endOf(channel.resume());
      const stderr = collect(channel.stderr);
      const tar = spawn("tar", ["-C", dirname(from), "-cf", "-", basename(from)], { stdio: ["ignore", "pipe", "inherit"] });
      const ended = once(tar, "close");
      tar.stdout.pipe(channel);
      const { code } = await end;
      await ended;
      if (code !== 0 || tar.exitCode !== 0) throw new Error(`${from} was not copied into the node VM: ${stderr().trim()}`);
    },
    async copyOut(from, toFolder) {
      const { channel } = await open(["tar", "-C", dirname(from), "-cf", "-", basename(from)]);
      const end = endOf(channel);
      const stderr = collect(channel.stderr);
      const tar = spawn("tar", ["-C", toFolder, "-xf", "-"], { stdio: ["pipe", "ignore", "inherit"] });
      const ended = once(tar, "close");
      channel.pipe(tar.stdin);
      // It may end before all has come: what comes then is read, or the channel never closes. After pipe(), whose own listener pauses it.
      tar.stdin.on("error", () => undefined).on("close", () => channel.resume());
      const { code } = await end;
      await ended;
      if (code !== 0 || tar.exitCode !== 0) throw new Error(`${from} was not copied out of the node VM: ${stderr().trim()}`);
    },
    [Symbol.dispose]: () => client.destroy(),
  };
}

/** A machine that does not even open a channel is given up. */
async function exec(client: Client, line: string, options: ExecOptions): Promise<ClientChannel> {
  return new Promise((resolve, reject) => {
    const limit = systemClock.after(openLimitMs, () => reject(new Error(`the node VM opened no channel for ${line}`)));
    client.exec(line, options, (error, channel) => {
      limit[Symbol.dispose]();
      if (error) reject(error);
      else resolve(channel);
    });
  });
}

/** Resolves when the channel has closed and all was read. */
function endOf(channel: ClientChannel): Promise<Pick<Ran, "code" | "signal">> {
  let end: Pick<Ran, "code" | "signal"> = { code: undefined, signal: undefined };
  channel.on("exit", (code: number | null, signal?: string) => (end = { code: code ?? undefined, signal }));
  return new Promise((resolve) => channel.once("close", () => resolve(end)));
}

/** All that comes, as text. */
function collect(stream: Readable): () => string {
  const parts: Buffer[] = [];
  stream.on("data", (part: Buffer) => parts.push(part));
  return () => Buffer.concat(parts).toString();
}

/** One word for bash. */
export function quote(word: string): string {
  return `'${word.replaceAll("'", `'\\''`)}'`;
}

function lineOf(command: string | readonly string[]): string {
  return typeof command === "string" ? command : command.map(quote).join(" ");
}

async function connectOver(path: string, { hostKey, userKey }: ShellKeys, signal: AbortSignal): Promise<Client> {
  const sock = await connectSocket(path, signal);
  const wanted = hostKey.split(" ")[1];
  const client = new ssh2.Client();
  const abort = (): void => void client.destroy();
  signal.addEventListener("abort", abort, { once: true });
  try {
    await new Promise<void>((resolve, reject) => {
      client
        .once("ready", resolve)
        .once("error", reject)
        .once("close", () => reject(new Error("it hung up")));
      client.connect({
        sock,
        username: "root",
        privateKey: userKey,
        hostVerifier: (key: Buffer) => key.toString("base64") === wanted,
        readyTimeout: 0, // the signal's
        keepaliveInterval: 0,
      });
    });
  } catch (error) {
    signal.throwIfAborted();
    throw error;
  } finally {
    signal.removeEventListener("abort", abort);
  }
  return client;
}

/** QEMU makes the socket as it starts. */
async function connectSocket(path: string, signal: AbortSignal): Promise<ReturnType<typeof connect>> {
  for (;;) {
    signal.throwIfAborted();
    const socket = connect(path);
    try {
      await once(socket, "connect", { signal });
      return socket;
    } catch {
      socket.destroy();
      await systemClock.sleep(20, signal);
    }
  }
}
