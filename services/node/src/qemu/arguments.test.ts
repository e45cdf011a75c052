import fc from "fast-check";
import { expect, it } from "vitest";
import type { WakeSpec } from "../machine/vmm.ts";
import { vmArguments } from "./arguments.ts";

const spec: WakeSpec = {
  vmId: "0b8cd7ef-74c1-4c7e-9a3c-0f4c2a1a7e11",
  epoch: 3n,
  dir: "/state/vms/x",
  kernel: "/kernel",
  base: "/base",
  disk: "/disk",
  vcpus: 2,
  memBytes: 512 * 2 ** 20,
  tap: undefined,
};

const kvm = { acceleration: "kvm", tscKhz: 2_596_125 } as const;
const tcg = { ...kvm, acceleration: "tcg" } as const;

const after = (args: readonly string[], flag: string): string | undefined => args[args.indexOf(flag) + 1];

it("names the VM and its placement, and gives it what was asked for", () => {
  const args = vmArguments(spec, tcg);
  expect(after(args, "-name")).toBe("pitwall-0b8cd7ef-74c1-4c7e-9a3c-0f4c2a1a7e11-3");
  expect(after(args, "-m")).toBe("512M");
  expect(after(args, "-smp")).toBe("2");
  expect(after(args, "-accel")).toBe("tcg");
});

it("boots from an initramfs, or waits with its CPUs stopped for what it had in memory", () => {
  const booting = vmArguments(spec, tcg, "/initramfs");
  expect(after(booting, "-initrd")).toBe("/initramfs");
  expect(booting).not.toContain("-incoming");
  const waking = vmArguments(spec, tcg);
  expect(waking).toEqual(expect.arrayContaining(["-S", "-incoming", "defer"]));
  expect(waking).not.toContain("-initrd");
});

it("leaves mitigations on where the CPU is real", () => {
  expect(after(vmArguments(spec, kvm), "-append")).not.toContain("mitigations");
  expect(after(vmArguments(spec, tcg), "-append")).toContain("mitigations=off");
});

it("always says how fast the clock is: without it, emulated boots hang at random", () => {
  for (const host of [kvm, tcg]) expect(after(vmArguments(spec, host), "-append")).toContain("tsc_early_khz=2596125");
});

it("carries any path whole, whatever QEMU's option syntax makes of commas and equals signs", () => {
  fc.assert(
    fc.property(fc.string({ unit: "grapheme", minLength: 1 }), (name) => {
      const args = vmArguments({ ...spec, base: `/${name}` }, tcg);
      const drives = args
        .filter((_, at) => args[at - 1] === "-blockdev")
        .map((text) => JSON.parse(text) as { file: { filename: string }; "read-only": boolean });
      expect(drives.map(({ file }) => file.filename)).toEqual([`/${name}`, "/disk"]);
      expect(drives.map((drive) => drive["read-only"])).toEqual([true, false]);
    }),
  );
});

it("has QEMU's own network, or the TAP that is there for it, with the MAC that the firewall knows", () => {
  expect(after(vmArguments(spec, tcg), "-netdev")).toBe("user,id=net,ipv6=off");
  const args = vmArguments({ ...spec, tap: { name: "pw0123456789ab", mac: "02:00:ac:1e:00:02" } }, tcg);
  expect(after(args, "-netdev")).toBe("tap,id=net,ifname=pw0123456789ab,script=no,downscript=no");
  expect(args).toContain("virtio-net-device,netdev=net,mac=02:00:ac:1e:00:02");
});

it("refuses a relative path", () => {
  expect(() => vmArguments({ ...spec, disk: "disk" }, tcg)).toThrow("relative path");
});
