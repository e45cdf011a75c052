// Proves by a real boot which acceleration works: /dev/kvm may open and yet never run a guest.
import { execFile, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdir, readFile, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { PitwallError, writeFileAtomic } from "@pitwall/runtime";
import { z } from "zod";
import { statKernel } from "../host/kernel.ts";
import { cpio } from "../host/initramfs.ts";
import { staticElf } from "../host/static-elf.ts";
import { machineArguments, type Acceleration } from "./arguments.ts";
import { hostTscKhz } from "../host/tsc.ts";

const run = promisify(execFile);
const command = "qemu-system-x86_64";
const exitPort = 0xf4;
const exitValue = 0x10;
/** What isa-debug-exit makes of {@link exitValue}. */
export const probeExitCode = exitValue * 2 + 1;
const limitMs = { kvm: 5_000, tcg: 30_000 } as const;

const probed = z.object({ version: z.string(), acceleration: z.enum(["kvm", "tcg"]) });
export type Probed = z.output<typeof probed>;

/** Boots a tiny guest with KVM and, if that does not come up, with TCG. The result is kept until QEMU, kernel or the host's boot change. */
export async function probeQemu(kernel: string, cacheDir: string): Promise<Probed> {
  const version = await qemuVersion();
  const image = await statKernel(kernel);
  const bootId = await readFile("/proc/sys/kernel/random/boot_id", "utf8");
  const kvm = await stat("/dev/kvm").catch(() => undefined);
  const key = createHash("sha256")
    .update([version, kernel, image.size, image.mtimeMs, bootId, kvm?.mode ?? 0].join("\n"))
    .digest("hex");
  const kept = join(cacheDir, `probe-${key.slice(0, 16)}.json`);
  const known = await readFile(kept, "utf8").catch(() => undefined);
  if (known !== undefined) return probed.parse(JSON.parse(known));
  await mkdir(cacheDir, { recursive: true });
  const tries: Acceleration[] = kvm ? ["kvm", "tcg"] : ["tcg"];
  const output: string[] = [];
  for (const acceleration of tries) {
    const result = await probeBoot(kernel, cacheDir, acceleration);
    if (result.code === probeExitCode) {
      await writeFileAtomic(kept, JSON.stringify({ version, acceleration }));
      return { version, acceleration };
    }
    output.push(`${acceleration}: ${result.output.trim().split("\n").at(-1) || "did not boot in time"}`);
  }
  throw new PitwallError("unsupported", `QEMU cannot boot the guest kernel here (${output.join("; ")})`, { reason: "VMM_UNUSABLE" });
}

async function qemuVersion(): Promise<string> {
  try {
    const { stdout } = await run(command, ["--version"]);
    return /version (\S+)/.exec(stdout)?.[1] ?? "unknown";
  } catch (error) {
    throw new PitwallError("unsupported", `${command} is missing: install the Debian package qemu-system-x86`, {
      reason: "VMM_MISSING",
      cause: error,
    });
  }
}

async function probeBoot(kernel: string, cacheDir: string, acceleration: Acceleration): Promise<{ code: number | null; output: string }> {
  const initramfs = join(cacheDir, `probe-init-${process.pid}.cpio`);
  await writeFileAtomic(initramfs, probeInitramfs());
  try {
    return await boot(kernel, initramfs, acceleration);
  } finally {
    await rm(initramfs, { force: true });
  }
}

async function boot(kernel: string, initramfs: string, acceleration: Acceleration): Promise<{ code: number | null; output: string }> {
  const parameters = `reboot=t panic=-1 quiet tsc_early_khz=${await hostTscKhz()} mitigations=off random.trust_cpu=on`;
  const child = spawn(
    command,
    [
      ...machineArguments(acceleration),
      ...["-m", "128M", "-kernel", kernel, "-initrd", initramfs, "-append", parameters],
      ...["-device", `isa-debug-exit,iobase=${exitPort},iosize=4`],
    ],
    { stdio: ["ignore", "ignore", "pipe"] },
  );
  let output = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    output = (output + text).slice(-2048);
  });
  const timer = setTimeout(() => child.kill("SIGKILL"), limitMs[acceleration]);
  const code = await new Promise<number | null>((resolve) => {
    child.once("close", resolve);
    child.once("error", () => resolve(null));
  });
  clearTimeout(timer);
  return { code, output };
}

/** An archive whose `/init` ends the machine with {@link probeExitCode}: what the quickest possible boot is. */
export function probeInitramfs(): Buffer {
  return cpio([{ name: "init", mode: 0o100755, data: probeInit() }]);
}

/** 32 instructions' worth of bytes: ioperm(0xf4, 4, 1), out 0xf4, then spin. */
function probeInit(): Buffer {
  const code = Buffer.from([
    ...[0xb8, 173, 0, 0, 0], // mov eax, ioperm
    ...[0xbf, exitPort, 0, 0, 0], // mov edi, 0xf4
    ...[0xbe, 4, 0, 0, 0], // mov esi, 4
    ...[0xba, 1, 0, 0, 0], // mov edx, 1
    ...[0x0f, 0x05], // syscall
    ...[0xb0, exitValue], // mov al, 0x10
    ...[0xe6, exitPort], // out 0xf4, al
    ...[0xeb, 0xfe], // jmp self
  ]);
  return staticElf(() => code);
}
