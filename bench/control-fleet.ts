// Simulated nodes in processes of their own, and what can be seen of them from outside.
import { open, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Ca } from "@pitwall/controller/src/ca/ca.ts";
import type { Installation } from "@pitwall/controller/tests/support/installation.ts";
import { startProcess, type ServiceProcess } from "@pitwall/controller/tests/support/processes.ts";
import { enrollNodes, type Addresses } from "./control-identities.ts";
import type { MeasuredController } from "./control-measured.ts";

/** Nothing of it is slow: what is measured is the control plane. */
const script = { prepare: "0ms", boot: "0ms", shutdown: "0ms" };
/** As much as any benchmark places there. */
const capacity = {
  PITWALL_CAPACITY_CPU_MILLIS: "1000000000",
  PITWALL_CAPACITY_MEM: "1000000000000000",
  PITWALL_CAPACITY_DISK: "1000000000000000",
};

export interface Fleet extends ServiceProcess {
  readonly name: string;
  readonly count: number;
  /** How often `step` has come in its trace since it was asked for last. */
  newSteps(step: string): Promise<number>;
}

export interface FleetWanted {
  readonly stateDir: string;
  /** Nodes are NAME-1, NAME-2, … */
  readonly name: string;
  readonly count: number;
}

/** Resolves when all of them are linked. */
export async function startFleet(installation: Installation, ca: Ca, at: Addresses, wanted: FleetWanted): Promise<Fleet> {
  const { stateDir, name, count } = wanted;
  await enrollNodes(installation, ca, at, wanted);
  const scriptPath = join(stateDir, "script.json");
  await writeFile(scriptPath, JSON.stringify(script));
  const trace = join(stateDir, "trace.jsonl");
  const running = await startProcess("node", {
    PITWALL_STATE_DIR: stateDir,
    PITWALL_SIMULATE: scriptPath,
    PITWALL_COUNT: String(count),
    PITWALL_NAME: name,
    PITWALL_TRACE: trace,
    PITWALL_LOG_LEVEL: "error",
    ...capacity,
  });
  return { ...running, name, count, newSteps: stepsIn(trace) };
}

function stepsIn(path: string): (step: string) => Promise<number> {
  let position = 0;
  let rest = "";
  return async (step) => {
    const file = await open(path);
    try {
      const { size } = await file.stat();
      const { buffer } = await file.read(Buffer.alloc(size - position), 0, size - position, position);
      position = size;
      const lines = (rest + buffer.toString()).split("\n");
      rest = lines.pop() ?? "";
      return lines.filter((line) => line.includes(`"step":"${step}"`)).length;
    } finally {
      await file.close();
    }
  };
}

/** What is measured on a whole fleet works with this. */
export interface MeasuredFleet {
  readonly installation: Installation;
  readonly ca: Ca;
  readonly controller: MeasuredController;
  readonly fleets: readonly Fleet[];
  /** Nodes of all of them. */
  readonly count: number;
}
