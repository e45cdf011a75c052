// How QEMU plays the host: an emulated PC with AMD's virtualization, so that KVM works in it wherever QEMU runs.
import { spawn } from "node:child_process";
import { open, readFile } from "node:fs/promises";
import { connect } from "node:net";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { z } from "zod";
import type { NodeVmImage } from "@pitwall/quickstart";

const program = "qemu-system-x86_64";

/** Sockets and logs, relative to the machine's folder, which is QEMU's working directory. */
export const files = { qmp: "qmp.sock", shell: "shell.sock", disk: "disk.sock", console: "console.log", output: "qemu.log" } as const;
/** The serial port in which the shell's connection is, as guest/channel knows it. */
const shellPort = "pitwall.shell";
export const wireDevice = "wire";

export interface QemuOptions {
  readonly image: NodeVmImage;
  readonly memMib: number;
  readonly cpus: number;
  /** Files that the machine reads once, below the machine's folder: name and path. */
  readonly given: Readonly<Record<string, string>>;
  /** Sockets of virtiofsd by their tags. */
  readonly shares: Readonly<Record<string, string>>;
  /** What QEMU is told of this end of the wire, made for the id {@link wireDevice}, and the hardware address. */
  readonly wire?: { readonly netdev: string; readonly mac: string };
}

export interface Qemu {
  readonly pid: number;
  /** Resolves when it has ended, with what it said last. */
  readonly ended: Promise<string>;
  kill(): Promise<void>;
}

/** Starts QEMU in `dir`. It ends with this process, however this ends. */
export async function startQemu(dir: string, options: QemuOptions): Promise<Qemu> {
  const log = await open(join(dir, files.output), "w", 0o600);
  const args = ["--pdeathsig", "KILL", "--", program, ...qemuArguments(options, await tscKhz())];
  const child = spawn("setpriv", args, { cwd: dir, detached: true, stdio: ["ignore", log.fd, log.fd] });
  const closed = new Promise<void>((resolve) => child.once("exit", () => resolve()).once("error", () => resolve()));
  await log.close();
  const ended = closed.then(async () => (await readFile(join(dir, files.output), "utf8")).trim().split("\n").slice(-4).join(" | "));
  if (child.pid === undefined) throw new Error("setpriv cannot be started");
  return {
    pid: child.pid,
    ended,
    async kill() {
      child.kill("SIGKILL");
      await closed;
    },
  };
}

function qemuArguments({ image, memMib, cpus, given, shares, wire }: QemuOptions, khz: number): string[] {
  return [
    ...["-M", "q35,usb=off,smbus=off,sata=off,vmport=off,graphics=off,memory-backend=memory", "-accel", "tcg,thread=multi"],
    // Everything that emulation can do but ERMS: it copies byte by byte what the kernel then copies with `rep movsb`.
    ...["-cpu", "max,+svm,-erms", "-smp", String(cpus), "-m", `${memMib}M`],
    ...["-object", `memory-backend-memfd,id=memory,size=${memMib}M,share=on`], // virtiofsd reads and writes it
    ...["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"],
    ...["-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"],
    ...["-kernel", image.kernel, "-initrd", image.initramfs, "-append", kernelCommandLine(khz)],
    ...Object.entries(given).flatMap(([name, path]) => ["-fw_cfg", `name=opt/dev.pitwall/${name},file=${path}`]),
    ...["-chardev", `file,id=console,path=${files.console},append=on`, "-serial", "chardev:console"],
    ...["-chardev", `socket,id=qmp,path=${files.qmp},server=on,wait=off`, "-mon", "chardev=qmp,mode=control"],
    ...["-chardev", `socket,id=shell,path=${files.shell},server=on,wait=off`],
    ...["-device", "virtio-serial-pci,max_ports=2", "-device", `virtserialport,chardev=shell,name=${shellPort}`],
    ...["-device", "virtio-rng-pci"],
    ...["-blockdev", JSON.stringify({ "node-name": "root", driver: "file", filename: image.root, "read-only": true })],
    ...["-device", "virtio-blk-pci,drive=root"],
    ...["-blockdev", JSON.stringify({ "node-name": "data", driver: "nbd", server: { type: "unix", path: files.disk }, export: "data" })],
    // What it cannot do it must not promise: the disk keeps no holes.
    ...["-device", "virtio-blk-pci,drive=data,discard=off,write-zeroes=off"],
    ...["-netdev", "user,id=uplink", "-device", "virtio-net-pci,netdev=uplink,romfile="],
    ...(wire ? ["-netdev", wire.netdev, "-device", `virtio-net-pci,id=${wireDevice},netdev=${wireDevice},mac=${wire.mac},romfile=`] : []),
    ...Object.entries(shares).flatMap(([tag, socket]) => [
      ...["-chardev", `socket,id=${tag},path=${socket}`],
      ...["-device", `vhost-user-fs-pci,chardev=${tag},tag=${tag}`],
    ]),
  ];
}

/** `tsc_early_khz` and what follows: under load, emulated clocks that are compared with each other never agree. */
function kernelCommandLine(khz: number): string {
  const clock = [`tsc_early_khz=${khz}`, "tsc=reliable"];
  return ["console=ttyS0", "quiet", "reboot=t", "panic=-1", "mitigations=off", "random.trust_cpu=on", "cryptomgr.notests", ...clock].join(
    " ",
  );
}

/** How fast the host's time stamp counter runs, which an emulated machine reads: the kernel's BogoMIPS are twice its MHz. */
async function tscKhz(): Promise<number> {
  const bogomips = Number(/^bogomips\s*:\s*([\d.]+)$/im.exec(await readFile("/proc/cpuinfo", "utf8"))?.[1]);
  if (!(bogomips > 0)) throw new Error("/proc/cpuinfo does not say how fast the processor is (bogomips)");
  return Math.round(bogomips * 500);
}

const message = z.object({ QMP: z.unknown(), return: z.unknown(), error: z.object({ desc: z.string() }), event: z.string() }).partial();
const qmpLimitMs = 10_000;

/** Runs one command of QEMU's monitor (docs/interop/qmp-spec in its tree). Rejects with what it says. */
export async function qmp(dir: string, execute: string, args: Readonly<Record<string, unknown>> = {}): Promise<unknown> {
  const socket = connect(join(dir, files.qmp));
  socket.setTimeout(qmpLimitMs, () => socket.destroy(new Error("QEMU does not answer")));
  try {
    const pending: object[] = [{ execute: "qmp_capabilities" }, { execute, arguments: args }];
    for await (const line of createInterface({ input: socket, crlfDelay: Infinity })) {
      const { QMP, error, event, return: result } = message.parse(JSON.parse(line));
      if (event !== undefined) continue;
      if (error) throw new Error(`QEMU: ${error.desc}`);
      const next = pending.shift();
      if (QMP === undefined && next === undefined) return result;
      socket.write(`${JSON.stringify(next)}\n`);
    }
    throw new Error("QEMU closed its monitor");
  } finally {
    socket.destroy();
  }
}
