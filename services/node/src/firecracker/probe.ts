// Proves by a real boot, in a jail as any VM's, that this host runs VMs under Firecracker: /dev/kvm may open and yet never run a guest.
import { createHash } from "node:crypto";
import { mkdir, readdir, readFile, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { isAlive, PitwallError, systemClock, writeFileAtomic } from "@pitwall/runtime";
import { z } from "zod";
import { cpio } from "../host/initramfs.ts";
import { staticElf } from "../host/static-elf.ts";
import { clear, launch, type Ground } from "./launch.ts";

/** Emulated hardware is slow, and a busy host slower. */
const limitMs = 60_000;
const pollMs = 20;
const mib = 2 ** 20;
/** What the guest's init writes on its console. */
const word = "pitwall-probe-init";
const folderPrefix = "probing-";

const probed = z.object({ version: z.string(), acceleration: z.literal("kvm") });
export type Probed = z.output<typeof probed>;

/** The result is kept in `cacheDir` until Firecracker, the kernel or the host's boot change. Throws `unsupported`. */
export async function probeFirecracker(ground: Ground, kernel: string, cacheDir: string): Promise<Probed> {
  const image = await stat(kernel);
  const bootId = await readFile("/proc/sys/kernel/random/boot_id", "utf8");
  const { version, firecracker } = ground.programs;
  const key = createHash("sha256").update([firecracker, version, kernel, image.size, bootId].join("\n")).digest("hex");
  const kept = join(cacheDir, `probe-${key.slice(0, 16)}.json`);
  const known = await readFile(kept, "utf8").catch(() => undefined);
  if (known !== undefined) return probed.parse(JSON.parse(known));
  await boot(ground, kernel, cacheDir);
  const result: Probed = { version, acceleration: "kvm" };
  await writeFileAtomic(kept, JSON.stringify(result));
  return result;
}

async function boot(ground: Ground, kernel: string, cacheDir: string): Promise<void> {
  await removeOld(ground, cacheDir);
  const vmId = crypto.randomUUID();
  const dir = join(cacheDir, `${folderPrefix}${vmId}`);
  await mkdir(dir, { mode: 0o700 });
  try {
    const initramfs = join(dir, "initramfs.cpio");
    await writeFileAtomic(initramfs, probeInitramfs());
    const lease = await ground.uids.lease(vmId, 0n, dir);
    using held = await launch(ground, lease, { vcpus: 1, memBytes: 128 * mib, hasDisks: false, files: { kernel, initramfs } });
    try {
      const deadline = systemClock.monotonicMs() + limitMs;
      while (!held.tail().includes(word)) {
        if (!isAlive(held.process) && !held.tail().includes(word)) throw unusable("it ended before the guest's init", held.tail());
        if (systemClock.monotonicMs() > deadline) throw unusable("the guest's init did not start in time", held.tail());
        await systemClock.sleep(pollMs);
      }
    } finally {
      await clear(ground, lease);
    }
  } catch (error) {
    if (error instanceof PitwallError && error.fault === "unsupported") throw error;
    throw unusable(error instanceof Error ? error.message : String(error), "", error);
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}

/** What a probe left that was cut off. Its lease, if it has one still, is cleared away with those of VMs. */
async function removeOld(ground: Ground, cacheDir: string): Promise<void> {
  const leased = new Set(ground.uids.all().map(({ dir }) => dir));
  for (const name of await readdir(cacheDir)) {
    const dir = join(cacheDir, name);
    if (name.startsWith(folderPrefix) && !leased.has(dir)) await rm(dir, { recursive: true, force: true });
  }
}

function unusable(why: string, tail: string, cause?: unknown): PitwallError {
  const last = tail.split("\n").at(-1) ?? "";
  return new PitwallError("unsupported", `Firecracker cannot boot the guest kernel here: ${why}${last === "" ? "" : ` (${last})`}`, {
    reason: "VMM_UNUSABLE",
    cause,
  });
}

/** An archive whose `/init` says {@link word} and then waits. */
function probeInitramfs(): Buffer {
  return cpio([{ name: "init", mode: 0o100755, data: probeInit() }]);
}

/** write(1, word, length), then pause for ever. The console is there before init is (init/main.c of Linux, console_on_rootfs). */
function probeInit(): Buffer {
  const text = Buffer.from(`${word}\n`);
  const codeBytes = 31;
  return staticElf((address) => {
    const textAddress = Buffer.alloc(4);
    textAddress.writeUInt32LE(address + codeBytes);
    const code = Buffer.from([
      ...[0xb8, 1, 0, 0, 0], // mov eax, write
      ...[0xbf, 1, 0, 0, 0], // mov edi, 1
      ...[0xbe, ...textAddress], // mov esi, text
      ...[0xba, text.length, 0, 0, 0], // mov edx, its length
      ...[0x0f, 0x05], // syscall
      ...[0xb8, 34, 0, 0, 0], // mov eax, pause
      ...[0x0f, 0x05], // syscall
      ...[0xeb, 0xf7], // jmp to the last mov: a signal may end a pause
    ]);
    return Buffer.concat([code, text]);
  });
}
