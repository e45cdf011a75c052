// All that a VM needs before its first instruction: base image, disk, host key, initramfs.
import { join } from "node:path";
import type { Assignment } from "@pitwall/proto/pitwall/v1/link.ts";
import type { VmSpec, VmTimings } from "@pitwall/proto/pitwall/v1/vm.ts";
import { systemClock, toDuration } from "@pitwall/runtime";
import { provideDisk } from "../host/disk.ts";
import { openHostKey } from "../host/host-key.ts";
import { writeVmInitramfs } from "../host/initramfs.ts";
import type { ImageCache } from "../images/cache.ts";
import { guestProcess } from "./process.ts";

export const noTimings: VmTimings = {
  place: undefined,
  pull: undefined,
  convert: undefined,
  prepare: undefined,
  boot: undefined,
  ready: undefined,
};

/** Of the node, what preparing takes. */
export interface Ingredients {
  readonly images: ImageCache;
  /** The initramfs that all VMs share. */
  readonly initramfs: string;
  readonly cacheDir: string;
}

export interface Prepared {
  readonly base: string;
  readonly disk: string;
  /** Holds secrets: to be removed once the VM runs. */
  readonly initramfs: string;
  /** `ssh-ed25519 AAAA…` */
  readonly sshHostKey: string;
  readonly timings: VmTimings;
}

/** Makes what is missing in `dir`. `isNew`: the VM never came so far as to have a host key, so a disk is the rest of a start that was cut off. */
export async function prepare(
  { images, initramfs: shared, cacheDir }: Ingredients,
  dir: string,
  { vmName, imageDigest, authorizedKeys }: Assignment,
  spec: VmSpec,
  isNew: boolean,
  signal: AbortSignal,
): Promise<Prepared> {
  const image = await images.ensure(spec.image, imageDigest, signal);
  const started = systemClock.monotonicMs();
  const disk = join(dir, "disk.ext4");
  await provideDisk(disk, Number(spec.diskBytes), cacheDir, isNew);
  const hostKey = await openHostKey(join(dir, "host_key.pem"));
  const initramfs = join(dir, "initramfs.cpio");
  await writeVmInitramfs(
    shared,
    {
      hostname: vmName,
      network: { interface: "eth0", address: "10.0.2.15/24", gateway: "10.0.2.2", dns: ["10.0.2.3"] },
      ssh: { host_key: hostKey.privatePem, authorized_keys: authorizedKeys },
      process: guestProcess(image.config, spec),
      channel: { kind: "virtio-serial", name: "pitwall.guest" },
    },
    initramfs,
  );
  signal.throwIfAborted();
  const timings = {
    ...noTimings,
    pull: image.pullMs === undefined ? undefined : toDuration(image.pullMs),
    convert: image.convertMs === undefined ? undefined : toDuration(image.convertMs),
    prepare: toDuration(systemClock.monotonicMs() - started),
  };
  return { base: image.base, disk, initramfs, sshHostKey: hostKey.publicLine, timings };
}
