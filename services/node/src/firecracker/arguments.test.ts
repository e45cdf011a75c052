import { expect, it } from "vitest";
import { configure, jailerCommand, kernelCommandLine, processLimits } from "./arguments.ts";

const lease = { uid: 1_900_000_007, vmId: "7f3", epoch: 4n, dir: "/state/vms/7f3" };
const programs = { firecracker: "/state/firecracker/programs/x/firecracker", jailer: "/usr/bin/jailer", version: "1.17.0" };
const mib = 2 ** 20;

it("jails each VMM as its own user, in new namespaces, in its cgroup, with limits", () => {
  const command = jailerCommand(programs, lease, { cgroup: "pitwall/7f3-4", fileBytes: 4096, extra: ["--boot-timer"] }).join(" ");
  expect(command).toBe(
    "prlimit --core=0:0 unshare --net --ipc --uts /usr/bin/jailer --id 7f3-4 --exec-file /state/firecracker/programs/x/firecracker " +
      "--uid 1900000007 --gid 1900000007 --chroot-base-dir /state/vms/7f3 --cgroup-version 2 --parent-cgroup pitwall/7f3-4 --new-pid-ns " +
      "--resource-limit fsize=4096 --resource-limit no-file=2048 -- --api-sock /api.sock --log-path /log --level Error --boot-timer",
  );
  expect(processLimits(4096)).toEqual({ "Max file size": "4096", "Max open files": "2048", "Max core file size": "0" });
});

it("makes a VM with limits on each device, and no more than one that can be written", async () => {
  const calls: [string, Record<string, unknown>][] = [];
  await configure(async (path, body) => void calls.push([path, body]), { vcpus: 3, memBytes: 128 * mib, hasDisks: true }, 2_000_000);
  expect(calls.map(([path]) => path)).toEqual(["/machine-config", "/boot-source", "/serial", "/entropy", "/drives", "/drives", "/vsock"]);
  expect(calls[0]?.[1]).toEqual({ vcpu_count: 3, mem_size_mib: 128 });
  const limited = calls.filter(([path]) => ["/serial", "/entropy", "/drives"].includes(path));
  for (const [path, body] of limited) expect(body["rate_limiter"], path).toBeDefined();
  const writable = calls.flatMap(([path, body]) => (path === "/drives" && body["is_read_only"] === false ? [body["path_on_host"]] : []));
  expect(writable).toEqual(["/data"]);
});

it("makes a probe's guest without disks and without a channel", async () => {
  const paths: string[] = [];
  await configure(async (path) => void paths.push(path), { vcpus: 1, memBytes: 128 * mib, hasDisks: false }, 2_000_000);
  expect(paths).toEqual(["/machine-config", "/boot-source", "/serial", "/entropy"]);
});

it("refuses memory that is no whole number of MiB", async () => {
  const guest = { vcpus: 1, memBytes: 128 * mib + 1, hasDisks: false };
  await expect(configure(async () => undefined, guest, 2_000_000)).rejects.toMatchObject({ fault: "invalid", reason: "VMM_LIMIT" });
});

it("tells the guest how fast its counter runs, and to end by the keyboard controller", () => {
  expect(kernelCommandLine(2_445_404)).toContain(" tsc_early_khz=2445404");
  expect(kernelCommandLine(2_445_404)).toMatch(/^reboot=k /);
});
