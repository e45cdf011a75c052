// How QEMU is called: a microvm machine with virtio-mmio devices and nothing else.
import { PitwallError } from "@pitwall/runtime";
import type { GuestWiring, VmmTap, WakeSpec } from "../machine/vmm.ts";

/** A port of the serial device, and the network that QEMU makes up (its documentation, "User mode network"). */
export const wiring: GuestWiring = {
  channel: { kind: "virtio-serial", name: "pitwall.guest" },
  network: { interface: "eth0", address: "10.0.2.15/24", gateway: "10.0.2.2", dns: ["10.0.2.3"] },
};

export type Acceleration = "kvm" | "tcg";

/** What all VMs of a host have in common. */
export interface HostMachine {
  readonly acceleration: Acceleration;
  /** Rate of the host's time stamp counter. */
  readonly tscKhz: number;
  /** `NAME=VALUE`, for the guest's init; the kernel passes on what is not its own. */
  readonly environment?: readonly string[];
}

const mib = 2 ** 20;

/** Sockets and logs, relative to the VM's folder, which is QEMU's working directory: a UNIX socket's path has at most 107 bytes. */
export const files = {
  qmp: "qmp.sock",
  channel: "guest.sock",
  console: "console.log",
  output: "qemu.log",
  /** On which a guest's memory passes. */
  memory: "memory.sock",
} as const;

/** Of a QEMU, from outside: short whatever the state folder is called, since a UNIX socket's path has at most 107 bytes. */
export function socketPath(pid: number, name: string): string {
  return `/proc/${pid}/cwd/${name}`;
}

/**
 * Kernel parameters that each boot has, beside `tsc_early_khz`: without that the emulated clocks are calibrated against each other, which
 * under load never ends, and with a wrong one the guest's time runs wrong. `tsc=reliable`: there is nothing but ticks to check that clock by,
 * and a busy host delays ticks; the kernel would change to counting them, and lose time. `random.trust_cpu`: no waiting for entropy. The rest skips
 * work that a guest of this kind has no use for.
 */
const kernelParameters = [
  "reboot=t",
  "panic=-1",
  "quiet",
  "random.trust_cpu=on",
  "cryptomgr.notests",
  "noreplace-smp",
  "console=ttyS0",
] as const;

/** An emulated CPU does not speculate, so there is nothing to mitigate; a real one does. */
export function kernelCommandLine({ acceleration, tscKhz, environment = [] }: HostMachine): string {
  const forThis = [`tsc_early_khz=${tscKhz}`, "tsc=reliable", ...(acceleration === "tcg" ? ["mitigations=off"] : [])];
  return [...kernelParameters, ...forThis, ...environment].join(" ");
}

/**
 * Everything the host's CPU has, or everything that emulation can do but ERMS: a CPU that says it copies fast with `rep movsb` is believed,
 * and emulation copies byte by byte. Without it a boot takes a tenth less processor time.
 */
const cpuModel = { kvm: "host", tcg: "max,-erms" } as const;

/** Acceleration and machine, shared by VMs and the probe. */
export function machineArguments(acceleration: Acceleration): string[] {
  return [
    ...["-M", "microvm,acpi=on", "-accel", acceleration, "-cpu", cpuModel[acceleration]],
    ...["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"],
    ...["-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"],
  ];
}

/** A TAP is there already, and its rules: QEMU runs no script. */
function networkArguments(tap: VmmTap | undefined): string[] {
  const device = "virtio-net-device,netdev=net";
  if (!tap) return ["-netdev", "user,id=net,ipv6=off", "-device", device];
  return ["-netdev", `tap,id=net,ifname=${tap.name},script=no,downscript=no`, "-device", `${device},mac=${tap.mac}`];
}

/**
 * The whole command line of one VM, without the command itself. Without an initramfs it is that of a VM that goes on: it waits for its memory,
 * and then with its CPUs stopped. Throws `internal` for paths that QEMU's option syntax cannot carry.
 */
export function vmArguments(spec: WakeSpec, host: HostMachine, initramfs?: string): string[] {
  const drive = (id: string, path: string, readOnly: boolean): string[] => [
    "-blockdev",
    JSON.stringify({
      "node-name": id,
      driver: "raw",
      "read-only": readOnly,
      // The image cache shares one base among many VMs: a lock for writing must not be taken, and is not.
      file: { driver: "file", filename: path, "read-only": readOnly, ...(!readOnly && { discard: "unmap" }) },
    }),
    "-device",
    JSON.stringify({ driver: "virtio-blk-device", drive: id, serial: id }),
  ];
  for (const path of [spec.kernel, initramfs ?? "/", spec.base, spec.disk]) {
    if (!path.startsWith("/")) throw new PitwallError("internal", "a driver was given a relative path");
  }
  return [
    ...machineArguments(host.acceleration),
    ...["-name", `pitwall-${spec.vmId}-${spec.epoch}`, "-uuid", spec.vmId],
    ...["-m", `${Math.floor(spec.memBytes / mib)}M`, "-smp", String(spec.vcpus)],
    ...["-kernel", spec.kernel, "-append", kernelCommandLine(host)],
    ...(initramfs === undefined ? ["-S", "-incoming", "defer"] : ["-initrd", initramfs]),
    ...["-chardev", `file,id=console,path=${files.console},append=on`, "-serial", "chardev:console"],
    ...["-chardev", `socket,id=qmp,path=${files.qmp},server=on,wait=off`, "-mon", "chardev=qmp,mode=control"],
    ...["-chardev", `socket,id=guest,path=${files.channel},server=on,wait=off`],
    // Two ports, a console's that nobody uses and ours: each one costs the guest a pair of queues at boot, and 31 is the default.
    ...["-device", "virtio-serial-device,max_ports=2", "-device", "virtserialport,chardev=guest,name=pitwall.guest"],
    ...["-device", "virtio-rng-device"],
    ...drive("base", spec.base, true),
    ...drive("data", spec.disk, false),
    ...networkArguments(spec.tap),
  ];
}
