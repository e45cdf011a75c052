// A node VM: a virtual machine that plays a production host, with KVM, cgroups, bridges, nftables and a power switch of its own.
//
//   starting ──► running ──powerCut──► off ──restart──► running ──shutDown──► off
//
// Who starts one owns it: all it consists of ends with this process, however this ends. Its data disk alone outlasts power cuts.
import { once } from "node:events";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import ssh2 from "ssh2";
import type { NodeVmImage } from "@pitwall/quickstart";
import { systemClock, timeLimit } from "@pitwall/runtime";
import { openDisk } from "./disk.ts";
import { files, qmp, startQemu, wireDevice, type Qemu } from "./qemu.ts";
import { serveShare, type Share } from "./share.ts";
import { openShell, quote, type Shell, type ShellKeys } from "./shell.ts";
import { addresses, layWire, otherEnd, type End, type Wire } from "./wire.ts";

const gib = 2 ** 30;
/** To a shell, and as long again to what the shell needs. */
const bootLimitMs = 60_000;
const shutDownLimitMs = 30_000;
/** What the machine reads once, below /run/node-vm. */
const madeNames = ["authorized_keys", "host_key", "user_key", "settings"] as const;
const scriptNames = ["setup", "channel", "down", "sshd_config"] as const;
const macs: Record<End, string> = { a: "52:54:00:77:00:01", b: "52:54:00:77:00:02" };

export interface NodeVmOptions {
  readonly image: NodeVmImage;
  /** Its host name; default `node`. */
  readonly name?: string;
  /** Default 3072. */
  readonly memMib?: number;
  /** Default 2. */
  readonly cpus?: number;
  /** The file of its data disk, /data in it, made when it is not there; default one that goes with it. */
  readonly diskFile?: string;
  /** Of a file that is made; default 8 GiB, which take no room until they are used. */
  readonly diskBytes?: number;
  readonly shares?: readonly Share[];
  readonly wire?: { readonly wire: Wire; readonly end: End };
  /** Gives up a start, this one and later ones. */
  readonly signal?: AbortSignal;
}

export interface PowerCut {
  /** The share of unflushed blocks that had reached the medium by chance, from 0 to 1; default 0. */
  readonly keep?: number;
  /** Chooses them. */
  readonly seed?: string;
}

/** Its end of the wire: `wire0` in it, with a fixed address. */
export interface WireEnd {
  readonly address: string;
  readonly address6: string;
  readonly peerAddress: string;
  readonly peerAddress6: string;
  /** Takes the plug out, which the machine sees (no carrier), or puts it in. */
  plug(isIn: boolean): Promise<void>;
}

export interface NodeVm extends Pick<Shell, "run" | "open" | "login" | "copyIn" | "copyOut">, AsyncDisposable {
  readonly name: string;
  /** From the start of QEMU to a shell with all there is, at the last start. */
  readonly bootMs: number;
  /** Of QEMU; changes with each start. */
  readonly pid: number;
  /** Undefined without a wire. */
  readonly wire: WireEnd | undefined;
  /** Resolves when the machine that runs now has ended by itself or was ended. */
  readonly ended: Promise<string>;
  /** What is not flushed to the disk is lost; how many blocks of 4 KiB the disk had held back. */
  powerCut(how?: PowerCut): Promise<number>;
  /** With the same disk; after a power cut or a shutdown. */
  restart(): Promise<void>;
  /** As an administrator does it: nothing is lost. */
  shutDown(): Promise<void>;
  /** What the machine has said on its console. */
  console(): Promise<string>;
}

/** This repository, in each node VM of the tests. */
export const repository: Share = { dir: resolve(import.meta.dirname, "..", "..", ".."), at: "/pitwall", readOnly: true };

interface Running {
  readonly qemu: Qemu;
  readonly shell: Shell;
  readonly bootMs: number;
}

/** Resolves when it is up. */
export async function startNodeVm(options: NodeVmOptions): Promise<NodeVm> {
  await using parts = new AsyncDisposableStack();
  const { name = "node", shares = [repository], diskBytes = 8 * gib, diskFile } = options;
  const dir = await mkdtemp(join(tmpdir(), "pitwall-node-vm-"));
  parts.defer(() => rm(dir, { recursive: true, force: true }));
  const keys = await writeGiven(dir, name, shares, options.wire);
  const disk = parts.use(await openDisk({ file: diskFile ?? join(dir, "data.ext4"), socket: join(dir, files.disk), sizeBytes: diskBytes }));
  let running: Running | undefined = await boot(dir, { ...options, shares }, keys);
  const now = (): Running => {
    if (!running) throw new Error(`the node VM ${name} is off`);
    return running;
  };
  const stop = async (): Promise<void> => {
    running?.shell[Symbol.dispose]();
    await running?.qemu.kill();
    running = undefined;
  };
  parts.defer(stop);
  const all = parts.move();
  return {
    name,
    get bootMs() {
      return now().bootMs;
    },
    get pid() {
      return now().qemu.pid;
    },
    get ended() {
      return now().qemu.ended;
    },
    wire: options.wire && wireEnd(dir, options.wire.end),
    run: async (...args) => now().shell.run(...args),
    open: async (...args) => now().shell.open(...args),
    login: async (...args) => now().shell.login(...args),
    copyIn: async (...args) => now().shell.copyIn(...args),
    copyOut: async (...args) => now().shell.copyOut(...args),
    async powerCut({ keep = 0, seed = "" } = {}) {
      await now().qemu.kill(); // before the shell closes, which the machine could notice
      await stop();
      return disk.cutPower(keep, seed);
    },
    async restart() {
      if (running) throw new Error(`the node VM ${name} is on`);
      running = await boot(dir, { ...options, shares }, keys);
    },
    async shutDown() {
      const { shell, qemu } = now();
      using late = timeLimit(systemClock, shutDownLimitMs);
      const isLate = once(late.signal, "abort");
      const told = shell.run("busybox poweroff"); // runs guest/down; that it answers nobody waits for
      told.catch(() => undefined);
      const isOff = await Promise.race([qemu.ended.then(() => true), isLate.then(() => false)]);
      const said = isOff ? "" : await consoleEnd(dir);
      await stop();
      if (!isOff) throw new Error(`the node VM ${name} did not switch itself off within ${shutDownLimitMs} ms${said}`);
    },
    console: () => readFile(join(dir, files.console), "utf8"),
    [Symbol.asyncDispose]: () => all.disposeAsync(),
  };
}

/** Files that the machine reads through its firmware; the keys by which it and we know each other. */
async function writeGiven(dir: string, name: string, shares: readonly Share[], at: NodeVmOptions["wire"]): Promise<ShellKeys> {
  const [host, user] = [ssh2.utils.generateKeyPairSync("ed25519"), at?.wire.userKey ?? ssh2.utils.generateKeyPairSync("ed25519")];
  const wire = at ? `${addresses[at.end].v4}/24 ${addresses[at.end].v6}/64` : "";
  const mounts = shares.map(({ at: folder, readOnly = false }, index) => `share${index}:${folder}:${readOnly ? "ro" : "rw"}`).join(" ");
  const given: Record<(typeof madeNames)[number], string> = {
    authorized_keys: user.public,
    host_key: host.private,
    user_key: user.private,
    settings: `NAME=${quote(name)}\nWIRE=${quote(wire)}\nSHARES=${quote(mounts)}\n`,
  };
  for (const file of madeNames) await writeFile(join(dir, file), given[file], { mode: 0o600 });
  return { hostKey: host.public, userKey: user.private };
}

async function boot(dir: string, options: NodeVmOptions & { readonly shares: readonly Share[] }, keys: ShellKeys): Promise<Running> {
  const { image, memMib = 3072, cpus = 2, shares, wire, signal } = options;
  const begun = systemClock.monotonicMs();
  for (const socket of [files.qmp, files.shell]) await rm(join(dir, socket), { force: true });
  const sockets: Record<string, string> = {};
  for (const [index, { dir: folder }] of shares.entries()) {
    const tag = `share${index}`;
    sockets[tag] = `${tag}.sock`;
    await rm(join(dir, sockets[tag]), { force: true });
    await serveShare(folder, dir, sockets[tag]);
  }
  const qemu = await startQemu(dir, {
    ...{ image, memMib, cpus, shares: sockets },
    given: {
      ...Object.fromEntries(madeNames.map((name) => [name, name])),
      ...Object.fromEntries(scriptNames.map((name) => [name, join(import.meta.dirname, "guest", name)])),
    },
    ...(wire && { wire: { netdev: wire.wire.netdev(wire.end, wireDevice), mac: macs[wire.end] } }),
  });
  using limit = timeLimit(systemClock, bootLimitMs);
  const died = new AbortController();
  let isUp = false;
  void qemu.ended.then((words) => !isUp && died.abort(new Error(`QEMU ended: ${words}`)));
  try {
    const shell = await openShell(join(dir, files.shell), keys, AbortSignal.any([limit.signal, died.signal, ...(signal ? [signal] : [])]));
    const { code } = await shell.run("until [ -e /run/node-vm/ready ]; do sleep 0.05; done", { timeoutMs: bootLimitMs });
    if (code !== 0) throw new Error("it did not get ready");
    isUp = true;
    return { qemu, shell, bootMs: Math.round(systemClock.monotonicMs() - begun) };
  } catch (cause) {
    await qemu.kill();
    signal?.throwIfAborted();
    throw new Error(`the node VM did not start${await consoleEnd(dir)}`, { cause });
  }
}

/** To be said behind what is wrong. */
async function consoleEnd(dir: string): Promise<string> {
  const said = (await readFile(join(dir, files.console), "utf8").catch(() => "")).trim().split("\n").slice(-3).join(" | ");
  return said === "" ? "" : `; its console ends: ${said}`;
}

function wireEnd(dir: string, end: End): WireEnd {
  const [own, peer] = [addresses[end], addresses[otherEnd(end)]];
  return {
    ...{ address: own.v4, address6: own.v6, peerAddress: peer.v4, peerAddress6: peer.v6 },
    plug: async (isIn) => void (await qmp(dir, "set_link", { name: wireDevice, up: isIn })),
  };
}

export interface NodeVmPair extends AsyncDisposable {
  readonly a: NodeVm;
  readonly b: NodeVm;
  readonly wire: Wire;
}

/** Two of them, `node-a` and `node-b`, at the two ends of a wire. */
export async function startNodeVmPair(options: Omit<NodeVmOptions, "name" | "wire" | "diskFile">): Promise<NodeVmPair> {
  await using parts = new AsyncDisposableStack();
  const wire = parts.use(await layWire());
  const start = async (end: End): Promise<NodeVm> => startNodeVm({ ...options, name: `node-${end}`, wire: { wire, end } });
  const [a, b] = await Promise.allSettled([start("a"), start("b")]);
  for (const one of [a, b]) if (one.status === "fulfilled") parts.use(one.value);
  for (const one of [a, b]) if (one.status === "rejected") throw one.reason;
  if (a.status !== "fulfilled" || b.status !== "fulfilled") throw new Error("neither started nor failed");
  const all = parts.move();
  return { a: a.value, b: b.value, wire, [Symbol.asyncDispose]: () => all.disposeAsync() };
}
