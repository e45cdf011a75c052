// The words of placement: what a node offers, what a placed VM takes, and what a VM to be placed asks for.

export const resources = ["cpuMillis", "memBytes", "diskBytes"] as const;
export type Resource = (typeof resources)[number];
/** Whole numbers below 2^53 (9 PB), so that sums are exact. */
export type Resources = Readonly<Record<Resource, number>>;
export type Labels = Readonly<Record<string, string>>;

/** A node as placement sees it. */
export interface NodeFacts {
  readonly id: string;
  /** False while it has no session. */
  readonly ready: boolean;
  /** True while nothing new may be placed on it. */
  readonly cordoned: boolean;
  /** What VMs may have of it in all: what is there, times how often the node gives it away. */
  readonly capacity: Resources;
  readonly labels: Labels;
  /** Digests of the images it has. */
  readonly images: readonly string[];
}

/** What a node's label must be. A node without the label satisfies `not-in` and `absent` only. */
export type LabelTerm =
  | { readonly op: "in" | "not-in"; readonly key: string; readonly values: readonly string[] }
  | { readonly op: "exists" | "absent"; readonly key: string };

/** A term that makes a node better, by its share of the weights of all preferences. */
export interface Preference {
  readonly term: LabelTerm;
  /** More than 0. */
  readonly weight: number;
}

/**
 * VMs of the same project: those with this label, or all of them when it is absent, counted per failure domain. A domain is the nodes
 * with the same value of the node label `domain`; nodes without that label are one domain together. "" means each node is one.
 */
export interface Group {
  readonly label?: { readonly key: string; readonly value: string };
  readonly domain: string;
}

/** A VM that is on a node. What a VM holds for others to see is the same before and after. */
export interface PlacedVm {
  readonly id: string;
  readonly nodeId: string;
  readonly project: string;
  readonly labels: Labels;
  /** What it takes now: of a stopped VM only the disk. */
  readonly resources: Resources;
  /** Domains with a VM of the group are closed to this one, and this one's domain to the VMs of the group. */
  readonly antiAffinity: readonly Group[];
}

/** `spread` prefers nodes with little load, `bin-pack` those with much. */
export type Policy = "spread" | "bin-pack";

/** A VM that needs a node. */
export interface Wanted extends Omit<PlacedVm, "id" | "nodeId"> {
  readonly required: readonly LabelTerm[];
  readonly preferred: readonly Preference[];
  /** Each VM of the group that is in a domain counts against it. */
  readonly spread: readonly Group[];
  readonly policy: Policy;
  /** Digest of its image; "" when no matter. */
  readonly image: string;
}
