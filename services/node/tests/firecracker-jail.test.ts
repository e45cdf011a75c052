// Jails and user ids, as far as they need no Firecracker: what is refused before anything is started, who has which file, what is left.
import { chmod, chown, link, lstat, mkdir, mkdtemp, readdir, rename, rm, stat, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";
import { jailRoot, makeJail, removeJail, type JailFiles } from "../src/firecracker/jail.ts";
import { openUids, type UidLease } from "../src/firecracker/uids.ts";

const isRoot = process.getuid?.() === 0;
if (!isRoot) console.log("skipped: jails are made by root only");

const uid = 1_900_000_001;

interface Vm {
  readonly lease: UidLease;
  readonly files: JailFiles & { readonly base: string; readonly disk: string };
}

/** A VM's folder and its files, below a folder `vms` as the agent has it. */
async function makeVm(of: Partial<UidLease> = {}): Promise<Vm> {
  const top = await mkdtemp(join(tmpdir(), "pitwall-jail-"));
  onTestFinished(() => rm(top, { recursive: true }));
  const dir = join(top, "vms", "7f3");
  await mkdir(dir, { recursive: true, mode: 0o700 });
  const files = {
    kernel: join(top, "vmlinux"),
    base: join(top, "base.sqfs"),
    disk: join(dir, "disk.ext4"),
    initramfs: join(dir, "initramfs"),
  };
  for (const path of Object.values(files)) await writeFile(path, "content", { mode: 0o600 });
  return { lease: { uid, vmId: "7f3", epoch: 1n, dir, ...of }, files };
}

describe.runIf(isRoot)("a jail", () => {
  it("has the VM's own files as its user's, and shared ones as root's, which it can only read", async () => {
    const { lease, files } = await makeVm();
    await makeJail(lease, files);
    const root = jailRoot(lease);
    expect((await readdir(root)).toSorted()).toEqual(["base", "console", "data", "initramfs", "kernel", "log"]);
    const owners = Object.fromEntries(
      await Promise.all(
        (await readdir(root)).map(async (name) => {
          const found = await lstat(join(root, name));
          return [name, [found.uid, (found.mode & 0o777).toString(8)]] as const;
        }),
      ),
    );
    expect(owners).toEqual({
      ...{ base: [0, "644"], kernel: [0, "644"] },
      ...{ data: [uid, "600"], initramfs: [uid, "600"], console: [uid, "600"], log: [uid, "600"] },
    });
    expect((await stat(files.disk)).ino).toBe((await stat(join(root, "data"))).ino);
  });

  it("leaves nothing when it is removed, twice as well as once, and the disk is root's again", async () => {
    const { lease, files } = await makeVm();
    await makeJail(lease, files);
    await removeJail(lease);
    await removeJail(lease);
    expect((await readdir(lease.dir)).toSorted()).toEqual(["disk.ext4", "initramfs"]);
    expect(await stat(files.disk)).toMatchObject({ uid: 0, gid: 0, nlink: 1 });
    await makeJail(lease, files);
  });

  const unsafe: readonly (readonly [string, (vm: Vm) => Promise<unknown>, reason: string])[] = [
    ["its folder is there before", ({ lease }) => mkdir(join(lease.dir, "firecracker")), "JAIL_EXISTS"],
    ["a link is in its place", ({ lease }) => symlink("/tmp", join(lease.dir, "firecracker")), "JAIL_EXISTS"],
    ["a file is in its place", ({ lease }) => writeFile(join(lease.dir, "firecracker"), ""), "JAIL_EXISTS"],
    ["others can change what is in the VM's folder", ({ lease }) => chmod(lease.dir, 0o777), "JAIL_UNSAFE"],
    ["others get into the VM's folder", ({ lease }) => chmod(lease.dir, 0o711), "JAIL_UNSAFE"],
    ["the VM's folder is somebody else's", ({ lease }) => chown(lease.dir, 1000, 1000), "JAIL_UNSAFE"],
    ["others can change what is in a folder above", ({ lease }) => chmod(join(lease.dir, ".."), 0o777), "JAIL_UNSAFE"],
    ["a folder above is somebody else's", ({ lease }) => chown(join(lease.dir, ".."), 1000, 1000), "JAIL_UNSAFE"],
    [
      "the VM's folder is a link",
      async ({ lease }) => {
        await rename(lease.dir, `${lease.dir}-moved`);
        await symlink(`${lease.dir}-moved`, lease.dir);
      },
      "JAIL_UNSAFE",
    ],
    [
      "the disk is a link",
      async ({ files }) => {
        await rename(files.disk, `${files.disk}-moved`);
        await symlink(`${files.disk}-moved`, files.disk);
      },
      "JAIL_UNSAFE",
    ],
    ["the disk has another name, which somebody else may have", ({ files }) => link(files.disk, `${files.disk}-too`), "JAIL_UNSAFE"],
    ["the disk is somebody else's already", ({ files }) => chown(files.disk, 1000, 1000), "JAIL_UNSAFE"],
    ["others can change the base", ({ files }) => chmod(files.base, 0o666), "JAIL_UNSAFE"],
    ["the kernel is somebody else's", ({ files }) => chown(files.kernel, 1000, 1000), "JAIL_UNSAFE"],
  ];

  it.each(unsafe)("is not made when %s", async (_, spoil, reason) => {
    const vm = await makeVm();
    await spoil(vm);
    await expect(makeJail(vm.lease, vm.files)).rejects.toMatchObject({ fault: "state", reason });
    expect((await lstat(vm.files.disk)).uid).not.toBe(uid);
  });
});

async function folder(): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), "pitwall-uids-"));
  onTestFinished(() => rm(dir, { recursive: true }));
  return join(dir, "uids");
}

describe("user ids", () => {
  it("are one for each of 64 VMs that come at once, also after the agent was killed, and no more than there are", async () => {
    const dir = await folder();
    const range = { first: 5_000, count: 64 };
    const uids = await openUids(dir, range);
    const leases = await Promise.all(Array.from({ length: 64 }, (_, at) => uids.lease(`vm-${at}`, 1n, `/vms/${at}`)));
    expect(new Set(leases.map(({ uid: own }) => own)).size).toBe(64);
    const again = await openUids(dir, range);
    expect(again.all()).toEqual(expect.arrayContaining(leases));
    await expect(again.lease("vm-64", 1n, "/vms/64")).rejects.toMatchObject({ fault: "exhausted", reason: "UIDS_USED_UP" });
    const freed = again.of("vm-7");
    await again.release(freed!); // it is in the list that was just compared
    expect((await again.lease("vm-64", 1n, "/vms/64")).uid).toBe(freed?.uid);
  });

  it("are not used again at once", async () => {
    const uids = await openUids(await folder(), { first: 5_000, count: 3 });
    const first = await uids.lease("a", 1n, "/vms/a");
    await uids.release(first);
    expect((await uids.lease("b", 1n, "/vms/b")).uid).not.toBe(first.uid);
  });

  it("that were leased by half are free, and a lease that cannot be read stops the agent", async () => {
    const dir = await folder();
    await mkdir(dir);
    await writeFile(join(dir, "5000.1a2b.tmp"), "{");
    const uids = await openUids(dir, { first: 5_000, count: 1 });
    expect(uids.all()).toEqual([]);
    expect(await readdir(dir)).toEqual([]);
    await writeFile(join(dir, "5000"), "{");
    await expect(openUids(dir, { first: 5_000, count: 1 })).rejects.toMatchObject({ fault: "corrupt" });
  });
});
