// What a VM is made of when there is no controller: an empty image, a disk, an initramfs.
import { execFile } from "node:child_process";
import { copyFile, mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { provision } from "@pitwall/quickstart";
import { provideDisk } from "../../src/host/disk.ts";
import { openHostKey } from "../../src/host/host-key.ts";
import { buildBaseInitramfs, writeVmInitramfs } from "../../src/host/initramfs.ts";
import type { GuestWiring, VmmSpec } from "../../src/machine/vmm.ts";
import { wiring as qemuWiring } from "../../src/qemu/arguments.ts";

const run = promisify(execFile);
const mib = 2 ** 20;

/** Disposing it removes the files of all VMs. */
export interface VmMakings extends AsyncDisposable {
  readonly dir: string;
  readonly kernel: string;
  /** A VM of its own each time, whose image has one program: `/x`, which ends at once. `network`: other than the wiring's. */
  makeSpec(argv?: readonly string[], network?: GuestWiring["network"]): Promise<VmmSpec>;
}

/** `powerunit`: another one than what is provided. `wiring`: of the driver that will start the VMs. */
export async function openVmMakings(powerunit?: string, wiring: GuestWiring = qemuWiring): Promise<VmMakings> {
  const dir = await mkdtemp(join(tmpdir(), "pitwall-vmm-"));
  const provisioned = await provision(() => undefined);
  const { kernel } = provisioned;
  const initramfs = await buildBaseInitramfs({
    ...provisioned,
    ...(powerunit !== undefined && { powerunit }),
    cacheDir: dir,
    channel: wiring.channel.kind,
  });
  const base = join(dir, "base.sqfs");
  await mkdir(join(dir, "image", "etc"), { recursive: true });
  await writeFile(join(dir, "image", "etc", "passwd"), "root:x:0:0:root:/:/bin/sh\n");
  await copyFile(provisioned.powerunit, join(dir, "image", "x")); // no init of anything there
  await run("tar", ["-C", join(dir, "image"), "-cf", join(dir, "image.tar"), "."]);
  await run("sh", ["-c", 'tar2sqfs --quiet --force "$1" < "$2"', "sh", base, join(dir, "image.tar")]);
  let count = 0;
  return {
    dir,
    kernel,
    async makeSpec(argv = [], network = wiring.network) {
      const vmDir = join(dir, `vm-${++count}`);
      await mkdir(vmDir, { mode: 0o700 });
      const disk = join(vmDir, "disk.ext4");
      await provideDisk(disk, 64 * mib, dir, true);
      const hostKey = await openHostKey(join(vmDir, "host_key.pem"));
      const own = join(vmDir, "initramfs.cpio");
      await writeVmInitramfs(
        initramfs,
        {
          hostname: "made",
          ...wiring,
          network,
          ssh: { host_key: hostKey.privatePem, authorized_keys: [] },
          process: { argv, env: [], user: "", working_dir: "", stop_signal: "SIGTERM", restart: "never", volumes: [] },
        },
        own,
      );
      const vmId = crypto.randomUUID();
      return { vmId, epoch: 1n, dir: vmDir, kernel, initramfs: own, base, disk, vcpus: 1, memBytes: 128 * mib, tap: undefined };
    },
    [Symbol.asyncDispose]: () => rm(dir, { recursive: true, force: true }),
  };
}
