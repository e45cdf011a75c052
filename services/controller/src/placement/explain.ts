// Says of each node why it was not chosen: for plans. Looks at every node, so it is made only when asked for.
import type { Fleet, FleetNode } from "./fleet.ts";
import { heedingTerm, pacingTerm } from "./heeding.ts";
import { Query, type Conflict } from "./query.ts";
import type { Choice } from "./scheduler.ts";
import { resources, type LabelTerm, type NodeFacts, type Resource, type Wanted } from "./wanted.ts";

export type Why = "not-ready" | "cordoned" | "label" | "network" | "anti-affinity" | "no-room" | "scored-lower" | "not-compared";

export interface Rejection {
  readonly nodeId: string;
  readonly why: Why;
  /** For people. Names no VM, since that may be another's. */
  readonly message: string;
}

/** The first reason for each node but the chosen, by node id. */
export function explain(fleet: Fleet, wanted: Wanted, chosen: Choice | undefined): Rejection[] {
  const query = new Query(fleet, wanted);
  return fleet.nodes
    .filter(({ facts }) => facts.id !== chosen?.nodeId)
    .map((node) => {
      const [why, message] = reason(fleet, query, node) ?? comparison(query.score(node.number), chosen);
      return { nodeId: node.facts.id, why, message };
    });
}

function reason({ table }: Fleet, query: Query, { number, facts }: FleetNode): readonly [Why, string] | undefined {
  if (!facts.ready) return ["not-ready", "it is not ready"];
  if (facts.cordoned) return ["cordoned", "it is cordoned"];
  const term = query.failedTerm(number);
  if (term === heedingTerm) return ["network", "it does not heed rules for what VMs send (docs/network.md)"];
  if (term === pacingTerm) return ["network", "it does not limit the bandwidth of VMs (docs/network.md)"];
  if (term) return ["label", `its label ${inWords(term, facts.labels[term.key])}`];
  const conflict = query.conflict(number);
  if (conflict) return ["anti-affinity", keptApart(conflict, facts)];
  const short = resources.flatMap((resource) => {
    const [wanted, free] = [query.wanted.resources[resource], table.limit(number, resource) - table.used(number, resource)];
    return wanted > free ? [shortage(resource, wanted, free)] : [];
  });
  return short.length > 0 ? ["no-room", short.join("; ")] : undefined;
}

function comparison(score: number, chosen: Choice | undefined): readonly [Why, string] {
  if (chosen && score <= chosen.score)
    return ["scored-lower", `it would do, but scores ${show(score)}; the chosen one ${show(chosen.score)}`];
  return ["not-compared", `it would do (score ${show(score)}), but was not among the nodes compared`];
}

const show = (score: number): string => score.toFixed(3);

function inWords(term: LabelTerm, value: string | undefined): string {
  const is = value === undefined ? `${term.key} is not set` : `${term.key} is ${JSON.stringify(value)}`;
  switch (term.op) {
    case "in":
      return `${is}; wanted ${term.values.map((wanted) => JSON.stringify(wanted)).join(" or ")}`;
    case "not-in":
      return `${is}, which is ruled out`;
    case "exists":
      return `${is}, and it must be`;
    case "absent":
      return `${is}, and it must not be`;
  }
}

function keptApart({ domain, group }: Conflict, { labels }: NodeFacts): string {
  const where = domain === "" ? "it" : `${domain} ${JSON.stringify(labels[domain] ?? "")}`;
  if (!group) return `${where} has a VM that keeps away from this one`;
  return `${where} has a VM ${group.label ? `with ${group.label.key}=${group.label.value}` : "of this project"}`;
}

const units = { cpuMillis: ["CPU", "millis", 1], memBytes: ["memory", "MiB", 2 ** 20], diskBytes: ["disk", "MiB", 2 ** 20] } as const;

function shortage(resource: Resource, wanted: number, free: number): string {
  const [word, unit, size] = units[resource];
  return `not enough ${word} (wanted ${Math.ceil(wanted / size)} ${unit}, free ${Math.max(0, Math.floor(free / size))} ${unit})`;
}
