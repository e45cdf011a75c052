// The guest kernel: Debian's cloud kernel, taken apart into an uncompressed image and the modules that a VM needs.
import { execFile } from "node:child_process";
import { mkdir, readdir, readFile, rename, rm, writeFile, copyFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { exists } from "@pitwall/runtime";
import { withProgress, type Say } from "../progress.ts";
import { command } from "./command.ts";
import { writeSums } from "./sums.ts";
import { apt } from "./packages.ts";

const metaPackage = "linux-image-cloud-amd64";
/** In the order in which they are loaded. */
const modules = [
  "virtio_ring",
  "virtio",
  "virtio_mmio",
  "virtio_blk",
  "failover",
  "net_failover",
  "virtio_net",
  "virtio_console",
  "squashfs",
  "overlay",
  "virtio-rng",
];
/** Beside those, for VMMs whose guest channel is a vsock device; in a folder of their own, because other VMs are not to load them. */
const vsockModules = ["vsock", "vmw_vsock_virtio_transport_common", "vmw_vsock_virtio_transport"];
/** The legacy LZ4 frame that Debian's bzImage carries (Documentation/x86/boot.rst: the payload). */
const lz4Magic = Buffer.from([0x02, 0x21, 0x4c, 0x18]);
const elfMagic = Buffer.from("\x7fELF", "latin1");

export interface GuestKernel {
  /** Uncompressed ELF. */
  readonly kernel: string;
  /** Folder of `NN-name.ko`, with the folder `vsock` of more. */
  readonly modulesDir: string;
  /** The Debian package that it comes from. */
  readonly version: string;
}

/** Downloads and takes apart the kernel, unless that was done. */
export async function provideKernel(cacheDir: string, say: Say): Promise<GuestKernel> {
  const dir = join(cacheDir, "kernel");
  const known = await readFile(join(dir, "version"), "utf8").catch(() => undefined);
  const isWhole = known !== undefined && (await exists(join(dir, "modules", "vsock"))); // earlier releases took no such modules
  if (isWhole) return { kernel: join(dir, "vmlinux"), modulesDir: join(dir, "modules"), version: known };
  const work = join(cacheDir, "kernel-work"); // one at a time, under the cache's lock: what a killed run left there goes
  await rm(work, { recursive: true, force: true });
  await mkdir(work, { recursive: true });
  try {
    const { root, version } = await downloadKernel(work, say);
    const made = join(work, "made");
    await mkdir(join(made, "modules", "vsock"), { recursive: true });
    await unpackKernel(join(root, "boot"), join(made, "vmlinux"));
    await collectModules(root, join(made, "modules"));
    await writeFile(join(made, "version"), version);
    await writeSums(made);
    if (await exists(dir)) await rename(dir, join(work, "old")); // others may be reading it: it is away for a moment only
    await rename(made, dir);
    return { kernel: join(dir, "vmlinux"), modulesDir: join(dir, "modules"), version };
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

/** Debian's package, its files below `root` in the folder `work`, and its name with its version. */
export async function downloadKernel(work: string, say: Say): Promise<{ readonly root: string; readonly version: string }> {
  const packageName = await findPackage();
  await withProgress(say, `downloading the kernel ${packageName}`, () => apt(["download", packageName], work)); // apt checks its signature
  const archive = (await readdir(work)).find((name) => name.endsWith(".deb"));
  if (archive === undefined) throw new Error(`apt downloaded nothing for ${packageName}`);
  const root = join(work, "x");
  await command("dpkg-deb", ["-x", archive, root], { cwd: work });
  return { root, version: archive.replace(/\.deb$/, "") };
}

async function findPackage(): Promise<string> {
  const find = async (): Promise<string | undefined> => {
    const said = await command("apt-cache", ["depends", "--important", metaPackage]).catch(() => "");
    return /Depends: (linux-image-[^\s]*-cloud-amd64)$/m.exec(said)?.[1];
  };
  const known = await find();
  if (known !== undefined) return known;
  await apt(["update"]).catch(() => undefined); // may need rights; the sentence below tells
  const found = await find();
  if (found === undefined) throw new Error(`apt does not know the package ${metaPackage}: run \`apt-get update\`, on Debian 12 or later`);
  return found;
}

/** The uncompressed image in `bootDir`. */
export async function unpackKernel(bootDir: string, to: string): Promise<void> {
  const name = (await readdir(bootDir)).find((file) => file.startsWith("vmlinuz-"));
  if (name === undefined) throw new Error("the kernel package holds no vmlinuz");
  const image = await readFile(join(bootDir, name));
  for (let at = image.indexOf(lz4Magic); at !== -1; at = image.indexOf(lz4Magic, at + 1)) {
    const payload = `${to}.lz4`;
    await writeFile(payload, image.subarray(at));
    // What follows the payload is not LZ4, and lz4 says so with its exit code, after it has written all.
    await promisify(execFile)("lz4", ["-d", "-q", "-f", payload, to]).catch(() => undefined);
    await rm(payload, { force: true });
    const head = await readFile(to).catch(() => Buffer.alloc(0));
    if (head.subarray(0, 4).equals(elfMagic)) return;
  }
  throw new Error("the kernel image has no LZ4 payload: only Debian 12 kernels are known");
}

async function collectModules(root: string, to: string): Promise<void> {
  const base = await firstFolder([join(root, "lib", "modules"), join(root, "usr", "lib", "modules")]);
  const builtIn = await readFile(join(base, "modules.builtin"), "utf8");
  const files = await readdir(base, { recursive: true });
  for (const [at, name] of [...modules, ...vsockModules].entries()) {
    const isBuiltIn = builtIn.split("\n").some((path) => path.endsWith(`/${name}.ko`) || path.endsWith(`/${name.replaceAll("_", "-")}.ko`));
    if (isBuiltIn) continue;
    const file = files.find((path) => path.endsWith(`/${name}.ko`));
    if (file === undefined) throw new Error(`the kernel package has no module ${name}`);
    const folder = vsockModules.includes(name) ? join(to, "vsock") : to;
    await copyFile(join(base, file), join(folder, `${String(at).padStart(2, "0")}-${name}.ko`));
  }
}

async function firstFolder(candidates: readonly string[]): Promise<string> {
  for (const candidate of candidates) {
    if (!(await exists(candidate))) continue;
    const [version] = await readdir(candidate);
    if (version !== undefined) return join(candidate, version);
  }
  throw new Error("the kernel package holds no modules");
}
