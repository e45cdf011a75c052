// The folder that a VMM sees as its root: `DIR/firecracker/VM-EPOCH/root` in the VM's own folder, on the disk that its data is on. The
// jailer makes devices in it and gives it to the VMM's user; everything else is linked into it here, before that user has anything.
//
// absent -> made (openJail) -> the VMM's (jailer) -> absent (removeJail; only when no process of it is left)
//
// Whoever can change names in a folder above the jail can make root follow them: all of these are root's alone, or nothing is started.
import { execFile } from "node:child_process";
import { chmod, chown, constants, link, lstat, mkdir, open, readdir, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { PitwallError } from "@pitwall/runtime";
import type { UidLease } from "./uids.ts";

const run = promisify(execFile);

/** The jailer names a folder after the program that it starts; the node's copy always has this name. */
export const programName = "firecracker";

/** What is in a jail, at its top. */
export const names = {
  kernel: "kernel",
  initramfs: "initramfs",
  base: "base",
  data: "data",
  console: "console",
  log: "log",
  api: "api.sock",
  vsock: "v.sock",
} as const;

/** Pipes that the agent reads are made in the VM's folder, which the VMM's user cannot change, and linked into the jail. */
const pipes = ["console", "log"] as const;

const writable = 0o022;
const sticky = 0o1000;

/** At most 64 letters, digits and hyphens, as the jailer wants it. */
export function jailId({ vmId, epoch }: Pick<UidLease, "vmId" | "epoch">): string {
  return `${vmId}-${epoch}`;
}

export function jailRoot(lease: UidLease): string {
  return join(lease.dir, programName, jailId(lease), "root");
}

/** Files of a VM. The initramfs and the disk are its own, and become its user's; kernel and base are shared and stay root's. */
export interface JailFiles {
  readonly kernel: string;
  readonly initramfs: string;
  readonly base?: string;
  readonly disk?: string;
}

/** Makes a jail that was not there. Throws `state` when something is in its place or could be put there, `unsupported` across file systems. */
export async function makeJail(lease: UidLease, files: JailFiles): Promise<void> {
  await checkParents(lease.dir);
  const { uid } = lease;
  for (const own of [files.initramfs, files.disk]) if (own !== undefined) await checkOwn(own);
  for (const shared of [files.kernel, files.base]) if (shared !== undefined) await checkShared(shared);
  const root = jailRoot(lease);
  for (const dir of [join(lease.dir, programName), dirname(root), root]) await makeFolder(dir);
  await makePipes(lease);
  await place(files.kernel, join(root, names.kernel));
  await place(files.initramfs, join(root, names.initramfs));
  await giveTo(files.initramfs, uid);
  if (files.base !== undefined) await place(files.base, join(root, names.base));
  if (files.disk !== undefined) {
    await place(files.disk, join(root, names.data));
    await giveTo(files.disk, uid);
  }
}

async function makePipes({ uid, dir, ...lease }: UidLease): Promise<void> {
  for (const name of pipes) {
    const path = join(dir, name);
    await rm(path, { force: true });
    await run("mkfifo", ["-m", "0600", path]);
    await chown(path, uid, uid);
    await place(path, join(jailRoot({ uid, dir, ...lease }), names[name]));
  }
}

/** Removes the jail, and makes what its user had root's again. Once more is as well as once. No process of the jail may be left. */
export async function removeJail({ dir, uid }: UidLease): Promise<void> {
  await rm(join(dir, programName), { recursive: true, force: true });
  for (const name of pipes) await rm(join(dir, name), { force: true });
  for (const name of await readdir(dir).catch(() => [])) {
    const found = await lstat(join(dir, name));
    if (found.uid === uid) await chown(join(dir, name), 0, 0);
  }
}

/** The VM's folder and all above it: root's, and nobody else can change names in them. Throws `state`. */
async function checkParents(dir: string): Promise<void> {
  const refuse = (path: string, why: string): PitwallError =>
    new PitwallError("state", `a VMM cannot be jailed in ${path}: ${why}`, { reason: "JAIL_UNSAFE" });
  for (let path = dir; ; path = dirname(path)) {
    const found = await lstat(path);
    if (!found.isDirectory()) throw refuse(path, "it is not a folder");
    if (found.uid !== 0) throw refuse(path, "it is not root's");
    const others = found.mode & writable;
    if (path === dir && (found.mode & 0o777) !== 0o700) throw refuse(path, "others than root get in");
    if (others !== 0 && (found.mode & sticky) === 0) throw refuse(path, "others than root can change what is in it");
    if (path === "/") return;
  }
}

/** A file that is this VM's alone. */
async function checkOwn(path: string): Promise<void> {
  const found = await lstat(path);
  const refuse = (why: string): PitwallError =>
    new PitwallError("state", `${path} cannot be given to a VMM: ${why}`, { reason: "JAIL_UNSAFE" });
  if (!found.isFile()) throw refuse("it is not a file");
  if (found.nlink !== 1) throw refuse("it has other names");
  if (found.uid !== 0) throw refuse("it is not root's");
}

/** A file that many VMs read and none may change. */
async function checkShared(path: string): Promise<void> {
  const found = await lstat(path);
  const refuse = (why: string): PitwallError =>
    new PitwallError("state", `${path} cannot be shown to a VMM: ${why}`, { reason: "JAIL_UNSAFE" });
  if (!found.isFile()) throw refuse("it is not a file");
  if (found.uid !== 0 || (found.mode & writable) !== 0) throw refuse("others than root can change it");
  if ((found.mode & 0o004) === 0) await chmod(path, 0o644); // read by each VMM as a user of its own; the folder keeps others out
}

async function makeFolder(path: string): Promise<void> {
  await mkdir(path, { mode: 0o700 }).catch((cause: unknown) => {
    throw new PitwallError("state", `there is something in a new jail's place: ${path}`, { reason: "JAIL_EXISTS", cause });
  });
}

/** Links a file into the jail: no copy, and no mount that could be left behind. */
async function place(from: string, to: string): Promise<void> {
  try {
    await link(from, to);
  } catch (cause) {
    if (!(cause instanceof Error && "code" in cause && cause.code === "EXDEV")) throw cause;
    const message = "images and VMs must be on one file system for Firecracker: leave PITWALL_CACHE_DIR below PITWALL_STATE_DIR";
    throw new PitwallError("unsupported", message, { reason: "CACHE_ELSEWHERE", cause });
  }
}

/** Opened without following links, so that what was checked is what is given. */
async function giveTo(path: string, uid: number): Promise<void> {
  const file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW);
  try {
    await file.chmod(0o600);
    await file.chown(uid, uid);
  } finally {
    await file.close();
  }
}
