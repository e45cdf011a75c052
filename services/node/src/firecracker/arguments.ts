// How a jailed Firecracker is called, and what its VM is told to be.
import { PitwallError } from "@pitwall/runtime";
import type { GuestWiring, VmmSpec } from "../machine/vmm.ts";
import type { Api, Bucket, RateLimiter } from "./api.ts";
import { jailId, names } from "./jail.ts";
import type { Programs } from "./programs.ts";
import type { UidLease } from "./uids.ts";

const mib = 2 ** 20;
export const guestPort = 1024;
/** Of the guest, as its vsock device says. It is alone on its device, so that all VMs may have the same. */
const guestCid = 3;

/** No network device yet: the guest channel is the only way in, and there is none out. */
export const wiring: GuestWiring = {
  channel: { kind: "vsock", port: guestPort },
  network: { interface: "", address: "", gateway: "", dns: [] },
  disks: "mode",
};

/** What all VMMs may have open: devices, the API's and the channel's connections. */
const openFiles = 2_048;

const perSecond = (size: number, burst?: number): Bucket => ({
  size,
  refill_time: 1_000,
  ...(burst !== undefined && { one_time_burst: burst }),
});

/** So that no guest takes a host's disk for itself: a good SSD's part. A boot reads without waiting. */
export const diskBytesPerS = 256 * mib;
const diskLimiter: RateLimiter = { bandwidth: perSecond(diskBytesPerS, 256 * mib), ops: perSecond(20_000, 20_000) };
const entropyLimiter: RateLimiter = { bandwidth: perSecond(64 * 1_024) };
/** Also what the agent takes of it. Beyond that Firecracker drops what the guest writes. */
export const consoleBytesPerS = 64 * 1_024;
const consoleLimiter = perSecond(consoleBytesPerS, mib);

/** `reboot=k`: Firecracker ends when the guest resets its keyboard controller, which is how powerunit ends a VM. */
export function kernelCommandLine(tscKhz: number): string {
  return [
    "reboot=k",
    "panic=-1",
    "quiet",
    "random.trust_cpu=on",
    "cryptomgr.notests",
    "console=ttyS0",
    "8250.nr_uarts=1",
    // A guest on emulated hardware measures its counter for ever; on real hardware this is what it would find.
    `tsc_early_khz=${tscKhz}`,
  ].join(" ");
}

/** What a process is allowed that {@link jailerCommand} starts, in the words of /proc/PID/limits. */
export function processLimits(fileBytes: number): Readonly<Record<string, string>> {
  return { "Max file size": String(fileBytes), "Max open files": String(openFiles), "Max core file size": "0" };
}

/**
 * A program and its arguments: the jailer, with no core dumps, as those would hold the guest's memory, and in new namespaces that it does
 * not make itself. `fileBytes` is the longest file that the VMM may write; `extra` goes to Firecracker.
 */
export function jailerCommand(
  programs: Programs,
  lease: UidLease,
  options: { readonly cgroup: string; readonly fileBytes: number; readonly extra: readonly string[] },
): readonly [string, ...string[]] {
  const user = String(lease.uid);
  return [
    "prlimit",
    "--core=0:0",
    ...["unshare", "--net", "--ipc", "--uts"],
    programs.jailer,
    ...["--id", jailId(lease), "--exec-file", programs.firecracker, "--uid", user, "--gid", user],
    ...["--chroot-base-dir", lease.dir, "--cgroup-version", "2", "--parent-cgroup", options.cgroup, "--new-pid-ns"],
    ...["--resource-limit", `fsize=${options.fileBytes}`, "--resource-limit", `no-file=${openFiles}`],
    "--",
    ...["--api-sock", `/${names.api}`, "--log-path", `/${names.log}`, "--level", "Error", ...options.extra],
  ];
}

/** A guest: what it is booted from is in its jail. Without disks it is a probe's. */
export type GuestSpec = Pick<VmmSpec, "vcpus" | "memBytes"> & { readonly hasDisks: boolean };

type Put = Api["put"];

/** Makes the VM, up to its start. Throws `invalid` for what Firecracker's limits do not admit. */
export async function configure(put: Put, { vcpus, memBytes, hasDisks }: GuestSpec, tscKhz: number): Promise<void> {
  if (memBytes % mib !== 0) throw new PitwallError("invalid", "Firecracker gives memory in MiB", { reason: "VMM_LIMIT" });
  await put("/machine-config", { vcpu_count: vcpus, mem_size_mib: memBytes / mib });
  await put("/boot-source", {
    kernel_image_path: `/${names.kernel}`,
    initrd_path: `/${names.initramfs}`,
    boot_args: kernelCommandLine(tscKhz),
  });
  await put("/serial", { serial_out_path: `/${names.console}`, rate_limiter: consoleLimiter });
  await put("/entropy", { rate_limiter: entropyLimiter });
  if (!hasDisks) return;
  const drive = { is_root_device: false, rate_limiter: diskLimiter } as const;
  await put("/drives", { ...drive, drive_id: "base", path_on_host: `/${names.base}`, is_read_only: true, cache_type: "Unsafe" });
  // Writeback: a flush of the guest's is one of the host's, or what the guest was told is on disk would not survive a power cut.
  await put("/drives", { ...drive, drive_id: "data", path_on_host: `/${names.data}`, is_read_only: false, cache_type: "Writeback" });
  await put("/vsock", { guest_cid: guestCid, uds_path: `/${names.vsock}` });
}
