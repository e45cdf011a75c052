// A thread of the campaign: runs the schedules whose seeds it is sent, one after the other, and answers each with its verdict; makes smaller
// those that it is asked to.
import { parentPort, workerData } from "node:worker_threads";
import { messageChain, plantFrom, silentLog } from "@pitwall/runtime";
import { faultLine, makeSchedule, nodeOpLine, type Schedule } from "./schedule/schedule.ts";
import { shrink } from "./schedule/shrink.ts";
import { runAndJudge } from "./sim/judged.ts";
import { openParts } from "./sim/parts.ts";
import { shrinkLimitMs, type ThreadData, type ThreadRequest, type Verdict } from "./thread.ts";

const { databaseUrl, image, planted } = workerData as ThreadData; // thread.ts made it

if (planted) plantFrom({ PITWALL_PLANTED: planted, PITWALL_ALLOW_FAILPOINTS: "1" }, silentLog);
const parts = await openParts({ databaseUrl, image });

async function smallest(seed: string, broken: readonly string[]): Promise<string> {
  const fails = async (candidate: Schedule): Promise<boolean> =>
    (await runAndJudge(candidate, parts)).violations.some(({ invariant }) => broken.includes(invariant));
  const limit = AbortSignal.timeout(shrinkLimitMs);
  const small = await shrink(makeSchedule(seed), fails, { signal: limit });
  const vms = new Set(small.ops.map(({ vm }) => vm)).size;
  const words = [`${small.nodes} nodes`, `${vms} VMs`, ...small.faults.map(faultLine), ...small.nodeOps.map(nodeOpLine)];
  return [...words, ...(limit.aborted ? [`no smaller one was sought after ${shrinkLimitMs / 1_000} s`] : [])].join("; ");
}

function brokenOff(seed: string, error: unknown): Verdict {
  return { seed, isValid: true, violations: [{ invariant: "run", message: messageChain(error) }], struck: [] };
}

parentPort?.on("message", (request: ThreadRequest) => {
  const { seed } = request;
  const answer: Promise<Verdict | string> =
    request.ask === "run"
      ? runAndJudge(makeSchedule(seed), parts).catch((error: unknown) => brokenOff(seed, error))
      : smallest(seed, request.broken).catch((error: unknown) => `making it smaller broke off: ${messageChain(error)}`);
  void answer.then((said) => parentPort?.postMessage(said));
});
