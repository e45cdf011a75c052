// The node VM's parts: a kernel, an initramfs and a file system of Debian packages that plays a production host. Made once.
import { createHash } from "node:crypto";
import { copyFile, cp, mkdir, readdir, readFile, rename, rm, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { exists } from "@pitwall/runtime";
import { withProgress, type Say } from "../progress.ts";
import { cacheDir as usualCacheDir, withLock } from "./cache.ts";
import { command } from "./command.ts";
import { downloadKernel, unpackKernel } from "./kernel.ts";
import { installPackages, runtimeCommands } from "./packages.ts";

const suite = "bookworm";
const packages = [
  // A shell, and what makes and mounts disks.
  ...["bash", "coreutils", "util-linux", "procps", "psmisc", "kmod", "busybox-static", "e2fsprogs", "attr"],
  // The network.
  ...["iproute2", "nftables", "conntrack", "iputils-ping", "tcpdump", "ethtool", "socat", "curl", "ca-certificates", "netcat-openbsd"],
  // Ways in.
  ...["openssh-server", "openssh-client"],
  // What a node runs.
  ...["qemu-system-x86", "squashfs-tools", "squashfs-tools-ng", "lz4", "strace"],
];
const excluded = ["/usr/share/man/*", "/usr/share/locale/*", "/usr/share/doc/*", "/usr/share/info/*"];
/** What the machine runs before all that whoever starts it gives it; copied to /etc/node-vm. */
const scripts = join(import.meta.dirname, "node-vm");

export interface NodeVmImage {
  /** Uncompressed ELF. */
  readonly kernel: string;
  readonly initramfs: string;
  /** A squashfs, never written to. */
  readonly root: string;
}

/** Made anew when the packages' names, the scripts or Node's version change; takes a minute or two. Throws one sentence where packages cannot be had. */
export async function provideNodeVm(say: Say, cacheDir: string = usualCacheDir()): Promise<NodeVmImage> {
  const dir = join(cacheDir, "node-vm", await edition());
  const work = join(cacheDir, "node-vm", "work");
  const image = { kernel: join(dir, "vmlinux"), initramfs: join(dir, "initramfs.cpio"), root: join(dir, "root.squashfs") };
  if (await exists(dir)) return image;
  await withLock(join(cacheDir, "node-vm"), say, async () => {
    if (await exists(dir)) return; // another process made it meanwhile
    await installPackages(runtimeCommands, say);
    await rm(work, { recursive: true, force: true }); // what a killed run left there
    await mkdir(work, { recursive: true });
    try {
      await rename(await make(work, say), dir);
    } finally {
      await rm(work, { recursive: true, force: true });
    }
  });
  return image;
}

async function edition(): Promise<string> {
  const hash = createHash("sha256").update(JSON.stringify([suite, packages, excluded, process.version]));
  for (const name of (await readdir(scripts)).toSorted()) hash.update(`${name}\0`).update(await readFile(join(scripts, name)));
  return hash.digest("hex").slice(0, 16);
}

async function make(work: string, say: Say): Promise<string> {
  const [kernel, added, made] = [join(work, "kernel"), join(work, "added"), join(work, "made")];
  for (const folder of [kernel, made, join(added, "usr", "local", "bin"), join(added, "usr", "lib"), join(added, "etc")])
    await mkdir(folder, { recursive: true });
  const { root, version } = await downloadKernel(kernel, say);
  await unpackKernel(join(root, "boot"), join(made, "vmlinux"));
  await rename(join(root, "lib", "modules"), join(added, "usr", "lib", "modules"));
  await withoutSignatures(join(added, "usr", "lib", "modules"));
  await cp(scripts, join(added, "etc", "node-vm"), { recursive: true });
  await copyFile(process.execPath, join(added, "usr", "local", "bin", "node"));
  await writeFile(join(made, "version"), `${version}\n`);
  await withProgress(say, "making the node VM's file system from Debian packages", () => debian(work, added, made));
  await withProgress(say, "packing the node VM's file system", () =>
    command("sh", [
      "-c",
      'exec tar2sqfs --quiet --force --compressor lz4 "$1" < "$2"',
      "sh",
      join(made, "root.squashfs"),
      join(work, "root.tar"),
    ]),
  );
  return made;
}

const signatureMagic = Buffer.from("~Module signature appended~\n");

/**
 * Takes the appended signature (kernel/module_signature.c) off each kernel module: to check it costs an emulated machine more than all else
 * about loading it, and proves nothing there.
 */
async function withoutSignatures(dir: string): Promise<void> {
  for (const name of await readdir(dir, { recursive: true })) {
    if (!name.endsWith(".ko")) continue;
    const module = await readFile(join(dir, name));
    const trailer = module.length - signatureMagic.length;
    if (!module.subarray(trailer).equals(signatureMagic)) continue;
    await truncate(join(dir, name), trailer - 12 - module.readUInt32BE(trailer - 4));
  }
}

/** Writes `root.tar` in `work`, with all that is in `added`, and takes the initramfs out of it. */
async function debian(work: string, added: string, made: string): Promise<void> {
  await command("tar", ["--owner=0", "--group=0", "-cf", join(work, "added.tar"), "-C", added, "usr", "etc"]);
  await command("mmdebstrap", [
    ...["--variant=minbase", "--mode=auto", "--quiet", `--include=${packages.join(",")}`],
    ...excluded.map((path) => `--dpkgopt=path-exclude=${path}`),
    `--customize-hook=tar-in ${join(work, "added.tar")} /`,
    '--customize-hook=chroot "$1" /etc/node-vm/finish',
    `--customize-hook=download /boot/initramfs.cpio ${join(made, "initramfs.cpio")}`,
    ...[suite, join(work, "root.tar")],
  ]);
}
