// The same image as a VM.
import { Phase, type Pitwall, type Vm } from "@pitwall/sdk";
import { expect } from "vitest";
import { run } from "../run.ts";
import type { Outcome } from "./container.ts";
import type { ParityImage } from "./images.ts";
import { findReport, findSignal, type Report } from "./report.ts";

const limitMs = 60_000;

/** Creates a VM and follows it until its process has ended or, with `stop`, has reported and was stopped. The VM stays for the caller to delete. */
export async function runVm(
  client: Pitwall,
  { name, stop = false, isReadOnly = false }: Pick<ParityImage, "name" | "stop" | "isReadOnly">,
  image: string,
): Promise<Outcome> {
  await client.vms.create({ name, spec: { image, memBytes: 128n * 2n ** 20n, readOnlyRoot: isReadOnly } });
  const isOver = ({ serviceExit, phase }: Vm): boolean => serviceExit !== undefined || phase === Phase.PHASE_FAILED;
  const running = await client.vms.waitUntil(name, (vm) => vm.phase === Phase.PHASE_RUNNING || isOver(vm), { timeoutMs: limitMs });
  if (running.phase === Phase.PHASE_FAILED) throw new Error(`${name}: ${running.reason} ${running.message}`);
  let output = "";
  const limit = AbortSignal.timeout(limitMs);
  try {
    for await (const { data } of client.readLogs(name, { follow: true, signal: limit })) {
      const reported = findReport(output) !== undefined;
      output += Buffer.from(data).toString();
      if (stop && !reported && findReport(output) !== undefined) await client.vms.stop(name);
      if (stop && findSignal(output) !== undefined) break;
    }
  } catch (error) {
    if (findSignal(output) === undefined)
      throw new Error(`${name}: its log broke off after ${JSON.stringify(output.slice(-300))}`, { cause: error });
  }
  const report = findReport(output);
  if (stop) return { report, signal: findSignal(output), exit: undefined, output };
  const { serviceExit } = await client.vms.waitUntil(name, isOver, { timeoutMs: limitMs });
  const exit = serviceExit && (serviceExit.signal > 0 ? 128 + serviceExit.signal : serviceExit.code);
  return { report, signal: undefined, exit, output };
}

/** Creates a VM, waits until `isUp` likes what the probe says of its process, and returns that. `ssh` is the command line that leads there. */
export async function inspectVm(
  client: Pitwall,
  name: string,
  image: string,
  ssh: readonly string[],
  isUp: (report: Report) => boolean,
): Promise<Report> {
  await client.vms.create({ name, spec: { image } });
  const running = await client.vms.wait(name);
  if (running.phase !== Phase.PHASE_RUNNING) throw new Error(`${name}: ${running.reason} ${running.message}`);
  let report: Report | undefined;
  await expect
    .poll(
      async () => {
        const { stdout } = await run([...ssh, "/probe --main"]);
        report = findReport(stdout);
        return report !== undefined && isUp(report);
      },
      { timeout: limitMs, message: `${name} as a VM` },
    )
    .toBe(true);
  return report!;
}
