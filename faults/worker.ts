// A worker of the campaign: runs the schedules whose seeds it is sent, one after the other, and answers each with its verdict.
import { randomUUID } from "node:crypto";
import { parentPort, workerData } from "node:worker_threads";
import { openImageSources } from "@pitwall/oci";
import { messageChain, plantFrom, silentLog } from "@pitwall/runtime";
import type { WorkerData, WorkerAnswer } from "./campaign.ts";
import { faultLine, makeSchedule, nodeOpLine, type Schedule } from "./schedule/schedule.ts";
import { shrink } from "./schedule/shrink.ts";
import { openSimDatabase } from "./sim/database.ts";
import { runAndJudge, type Verdict } from "./sim/judged.ts";
import { watchDatabases } from "./sim/traffic.ts";

const { databaseUrl, image, planted } = workerData as WorkerData; // campaign.ts made it

if (planted) plantFrom({ PITWALL_PLANTED: planted, PITWALL_ALLOW_FAILPOINTS: "1" }, silentLog);
watchDatabases();
const database = await openSimDatabase(databaseUrl, `sim_${randomUUID().replaceAll("-", "")}`);
const sources = openImageSources({ imageRoots: [image.slice("oci:".length)], insecureRegistries: [] });
const resolved = await sources.resolve(image, new AbortController().signal);
const parts = { database, image, images: { resolve: async () => resolved, openBlob: sources.openBlob } };

async function verdictOf(seed: string): Promise<WorkerAnswer> {
  const schedule = makeSchedule(seed);
  const verdict: Verdict = await runAndJudge(schedule, parts);
  if (verdict.violations.length === 0 || planted) return { ...verdict, shrunk: "" };
  const broken = new Set(verdict.violations.map(({ invariant }) => invariant));
  const fails = async (candidate: Schedule): Promise<boolean> =>
    (await runAndJudge(candidate, parts)).violations.some(({ invariant }) => broken.has(invariant));
  const small = await shrink(schedule, fails);
  const vms = new Set(small.ops.map(({ vm }) => vm)).size;
  return {
    ...verdict,
    shrunk: [`${small.nodes} nodes`, `${vms} VMs`, ...small.faults.map(faultLine), ...small.nodeOps.map(nodeOpLine)].join("; "),
  };
}

parentPort?.on("message", (seed: string) => {
  verdictOf(seed).then(
    (verdict) => parentPort?.postMessage(verdict),
    (error: unknown) => {
      const violation = { invariant: "run", message: messageChain(error) };
      parentPort?.postMessage({ seed, isValid: true, violations: [violation], shrunk: "" } satisfies WorkerAnswer);
    },
  );
});
