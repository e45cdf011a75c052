// What a node is, by its session's row and the database's time: pure.
//
//   ready -> unreachable (its stream ended, it was silent, its lease ran out) -> lost (the fence has had its time, or an operator said so)
//   each of them -> ready (hello)
import { planted } from "@pitwall/runtime";

export type NodeLife = "ready" | "unreachable" | "lost";

/** Milliseconds on the database's clock. */
export interface SessionTimes {
  readonly leaseExpireMs: number;
  /** When the link was seen to end. */
  readonly endMs: number | undefined;
  readonly lostMs: number | undefined;
}

interface Line {
  readonly life: NodeLife;
  readonly holds: (session: SessionTimes, nowMs: number) => boolean;
}

/** The first line that holds. */
const table: readonly Line[] = [
  { life: "lost", holds: ({ lostMs }) => lostMs !== undefined },
  { life: "unreachable", holds: ({ endMs }) => endMs !== undefined },
  { life: "unreachable", holds: ({ leaseExpireMs }, nowMs) => leaseExpireMs <= nowMs },
  { life: "ready", holds: () => true },
];

/** `session` is undefined for a node that never had one. */
export function lifeOf(session: SessionTimes | undefined, nowMs: number): NodeLife {
  if (!session) return "unreachable";
  return table.find(({ holds }) => holds(session, nowMs))?.life ?? "unreachable";
}

export interface Patience {
  /** How long a node may run what could be started elsewhere, from its last renewal. */
  readonly leaseMs: number;
  /** How long its fence may take to end that, once the lease is over. */
  readonly fenceMs: number;
}

/** A node trusts nine tenths of its lease, and its fence needs 2 s of 10 to end what is left: half of it again is enough for clocks too. */
export function patienceOf(leaseMs: number): Patience {
  return { leaseMs, fenceMs: planted("no-fence-budget") ? 0 : leaseMs / 2 };
}

/** Time for nodes to find another controller: the longest wait between their tries. */
const reconnectMs = 5_000;

/**
 * Whether a controller may judge. It must have been awake, and heard by the database, for so long that each node that lives could have
 * come back to it: a pause of its own, or of the database, is no node's fault.
 */
export function mayJudge(awakeForMs: number, { leaseMs }: Patience): boolean {
  return awakeForMs >= leaseMs + reconnectMs || planted("judge-at-once");
}
