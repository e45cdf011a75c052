// An agent's driver in a process of its own, so that it can be killed: starts one VM, says its pid, and ends the VM when it is told to.
// Failpoints are armed as in main.ts.
//
// firecracker-agent.ts STATE_DIR SPEC_JSON
import { failpointsFrom, silentLog } from "@pitwall/runtime";
import type { VmmSpec } from "../../src/machine/vmm.ts";
import { openDriver } from "./firecracker.ts";

const [dir = "", json = ""] = process.argv.slice(2);
const { epoch, ...spec } = JSON.parse(json) as Omit<VmmSpec, "epoch"> & { epoch: string };
const alive = setInterval(() => undefined, 1_000);
const driver = openDriver(dir, spec.kernel, { failpoints: failpointsFrom(process.env, silentLog) });
const vmm = await driver.start({ ...spec, epoch: BigInt(epoch) });
const { pid, startTicks } = vmm.process;
process.stdout.write(`${JSON.stringify({ driver: driver.name, pid, startTicks: String(startTicks) })}\n`);
process.stdin.once("data", () => void vmm.kill().finally(() => clearInterval(alive)));
