// All that a VM needs before its first instruction: base image, disk, host key, initramfs.
import { join } from "node:path";
import { toDuration, type Clock, type Failpoints } from "@pitwall/runtime";
import { provideDisk } from "../host/disk.ts";
import { openHostKey } from "../host/host-key.ts";
import { removeVmInitramfs, writeVmInitramfs } from "../host/initramfs.ts";
import type { ImageCache } from "../images/cache.ts";
import { credentialsFrom } from "../images/credential.ts";
import type { Ingredients, Prepared, Preparing } from "./host.ts";
import { guestProcess } from "./process.ts";
import { noTimings } from "./reports.ts";
import type { GuestWiring } from "./vmm.ts";

/** Of the host, what preparing takes. */
export interface Stock {
  readonly images: ImageCache;
  /** The initramfs that all VMs share. */
  readonly initramfs: string;
  readonly cacheDir: string;
  /** Of the driver that VMs are started by. */
  readonly wiring: GuestWiring;
  /**
   * `ssh-ed25519 AAAA…` of those whose certificates are good. A VM that boots before a controller has named any goes by what the gateway and
   * a controller have found.
   */
  readonly sshUserAuthorities: () => readonly string[];
  readonly clock: Clock;
  readonly failpoints: Failpoints;
}

/** From images and files of this host. */
export function openIngredients(stock: Stock): Ingredients {
  return {
    prepare: (what, signal) => prepare(stock, what, signal),
    discard: ({ initramfs }) => removeVmInitramfs(initramfs),
    lease: (imageDigest) => stock.images.lease(imageDigest),
  };
}

/** Makes what is missing in the VM's folder. */
async function prepare(
  { images, initramfs: shared, cacheDir, wiring, sshUserAuthorities, clock, failpoints }: Stock,
  { dir, assignment: { vmId, vmName, imageDigest, imageCredential, authorizedKeys }, spec, isNew, network }: Preparing,
  signal: AbortSignal,
): Promise<Prepared> {
  const image = await images.ensure(spec.image, imageDigest, signal, credentialsFrom(imageCredential));
  await failpoints.at("create.flatten.renamed", vmId);
  const started = clock.monotonicMs();
  const disk = join(dir, "disk.ext4");
  await provideDisk(disk, Number(spec.diskBytes), cacheDir, isNew);
  await failpoints.at("create.disk.cloned", vmId);
  const hostKey = await openHostKey(join(dir, "host_key.pem"));
  const initramfs = join(dir, "initramfs.cpio");
  await writeVmInitramfs(
    shared,
    {
      hostname: vmName,
      ...wiring,
      ...(network && { network }),
      ssh: { host_key: hostKey.privatePem, authorized_keys: authorizedKeys, user_ca: sshUserAuthorities(), principal: vmId },
      process: guestProcess(image.config, spec),
      read_only_root: spec.readOnlyRoot,
    },
    initramfs,
  );
  signal.throwIfAborted();
  const timings = {
    ...noTimings,
    pull: image.pullMs === undefined ? undefined : toDuration(image.pullMs),
    convert: image.convertMs === undefined ? undefined : toDuration(image.convertMs),
    prepare: toDuration(clock.monotonicMs() - started),
  };
  return { base: image.base, disk, initramfs, sshHostKey: hostKey.publicLine, timings };
}
