// Chooses a node for a VM out of a list of nodes: the scheduler for callers that keep no fleet.
import { PitwallError } from "@pitwall/runtime";
import { Fleet } from "./fleet.ts";
import { place } from "./scheduler.ts";
import type { Resources } from "./wanted.ts";

export interface Amounts {
  readonly cpuMillis: bigint;
  readonly memBytes: bigint;
  readonly diskBytes: bigint;
}

/** A node as placement sees it. */
export interface Candidate {
  readonly id: string;
  readonly ready: boolean;
  readonly capacity: Amounts;
  readonly allocated: Amounts;
}

const dimensions = ["cpuMillis", "memBytes", "diskBytes"] as const;
const words = { cpuMillis: "CPU", memBytes: "memory", diskBytes: "disk" } as const;

export function hasRoom({ capacity, allocated }: Pick<Candidate, "capacity" | "allocated">, wanted: Amounts): boolean {
  return dimensions.every((dimension) => allocated[dimension] + wanted[dimension] <= capacity[dimension]);
}

/**
 * The ready node with the least load and room. Throws `unavailable` when no node is ready and `exhausted` when none has room.
 */
export function choose(candidates: readonly Candidate[], wanted: Amounts): Candidate {
  const ready = candidates.filter((candidate) => candidate.ready);
  if (ready.length === 0) throw new PitwallError("unavailable", "no node is ready; see `pitwall nodes`", { reason: "NO_NODE_READY" });
  const fleet = new Fleet();
  const vm = { project: "", labels: {}, antiAffinity: [] };
  for (const { id, capacity, allocated } of ready) {
    fleet.setNode({ id, ready: true, cordoned: false, capacity: toResources(capacity), labels: {}, images: [] });
    fleet.place({ ...vm, id, nodeId: id, resources: toResources(allocated) });
  }
  const request = { ...vm, resources: toResources(wanted), required: [], preferred: [], spread: [], policy: "spread", image: "" } as const;
  const chosen = place(fleet, request, 0);
  const best = ready.find(({ id }) => id === chosen?.nodeId);
  if (!best) throw noRoom(ready, wanted);
  return best;
}

function toResources({ cpuMillis, memBytes, diskBytes }: Amounts): Resources {
  return { cpuMillis: Number(cpuMillis), memBytes: Number(memBytes), diskBytes: Number(diskBytes) };
}

/** Names what is missing, and how much there is at most. */
export function noRoom(nodes: readonly Pick<Candidate, "capacity" | "allocated">[], wanted: Amounts): PitwallError {
  const short = dimensions.flatMap((dimension) => {
    const most = nodes.reduce((max, { capacity, allocated }) => {
      const left = capacity[dimension] - allocated[dimension];
      return left > max ? left : max;
    }, 0n);
    return most < wanted[dimension]
      ? [`${words[dimension]} (wanted ${show(dimension, wanted[dimension])}, free at most ${show(dimension, most)})`]
      : [];
  });
  const what = short.length > 0 ? short.join(", ") : "all of it at once";
  return new PitwallError("exhausted", `no node has room for the VM: not enough ${what}; stop or delete VMs, or add a node`, {
    reason: "NO_CAPACITY",
  });
}

function show(dimension: (typeof dimensions)[number], amount: bigint): string {
  return dimension === "cpuMillis" ? `${amount} millis` : `${amount / 1_048_576n} MiB`;
}
