// How fast the processor's time stamp counter runs. An emulated guest reads the host's, and keeps its time by it.
import { readFile } from "node:fs/promises";
import { PitwallError } from "@pitwall/runtime";

/** Rate of the counter in kHz. The kernel derives BogoMIPS from it: twice its MHz. */
export function tscKhzOf(cpuinfo: string): number {
  const bogomips = Number(/^bogomips\s*:\s*([\d.]+)$/im.exec(cpuinfo)?.[1]);
  if (!(bogomips > 0)) throw new PitwallError("unsupported", "/proc/cpuinfo does not say how fast the processor is (bogomips)");
  return Math.round(bogomips * 500);
}

/** Of this host. */
export async function hostTscKhz(): Promise<number> {
  return tscKhzOf(await readFile("/proc/cpuinfo", "utf8"));
}
