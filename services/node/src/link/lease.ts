// How long this node may trust that nobody starts its VMs elsewhere.
//
//   lost -> held (an acknowledgement) -> lost (time)
//
// Trust ends a margin before the controller's patience, counted from when the acknowledged message was *sent*, on the clock that the
// fence shares. What was lost is given up in full before a new acknowledgement counts.
import { planted, type Clock, type Failpoints, type Log } from "@pitwall/runtime";

/** Of the time that the controller waits, this part is kept back: for ending VMs, and for clocks that run at different speeds. */
const marginShare = 0.1;
const unansweredLimit = 100;
/** What `bootMs` may be cut to. */
const tickMs = 10;

export interface LeaseOptions {
  readonly clock: Clock;
  readonly failpoints: Failpoints;
  /** Remembers the deadline when this agent is gone. */
  readonly fence: { readonly deadlineMs: number; renew(deadlineMs: number): void };
  /** Resolves when nothing runs any more that needs a lease. `wasHeld`: false for an agent that begins without one. */
  readonly onLost: (wasHeld: boolean) => Promise<void>;
  readonly log: Log;
}

/** Disposing it lets go of the lease without ending anything: the fence goes on watching. */
export interface Lease extends Disposable {
  isHeld(): boolean;
  /** A message goes out that can be acknowledged: a heartbeat's sequence, 0 for hello. */
  sent(sequence: bigint): void;
  /** Hello was accepted: for this long the controller waits for each heartbeat. Resolves when the lease is held. */
  welcomed(ttlMs: number): Promise<void>;
  acknowledged(sequence: bigint): Promise<void>;
}

/** The clock that leases are counted on, which the fence shares. */
export function leaseClockMs(clock: Pick<Clock, "bootMs" | "wallMs">): number {
  return planted("lease-by-wall-clock") ? clock.wallMs() : clock.bootMs();
}

/** Held from the start if an earlier run of the agent left it so. */
export function openLease({ clock, failpoints, fence, onLost, log }: LeaseOptions): Lease {
  const sentMs = new Map<bigint, number>();
  let { deadlineMs } = fence;
  let ttlMs = 0;
  let timer: Disposable | undefined;
  let losing: Promise<void> | undefined;
  const nowMs = (): number => leaseClockMs(clock);
  const isHeld = (): boolean => losing === undefined && nowMs() < deadlineMs;

  async function lose(): Promise<void> {
    await failpoints.at("lease.expired.seen");
    const wasHeld = deadlineMs > 0;
    if (wasHeld) log.warn("the lease is lost: VMs that may be started elsewhere end here");
    await onLost(wasHeld);
  }

  function watch(): void {
    timer?.[Symbol.dispose]();
    if (losing) return;
    const leftMs = deadlineMs - nowMs();
    if (leftMs > 0) timer = clock.after(leftMs + tickMs, watch);
    else losing = lose().catch((error: unknown) => log.error("VMs could not be ended", { error }));
  }

  async function acknowledged(sequence: bigint): Promise<void> {
    const from = sentMs.get(sequence);
    if (from === undefined) return;
    for (const older of sentMs.keys()) if (older <= sequence) sentMs.delete(older);
    await failpoints.at("lease.acked");
    const until = (planted("trust-from-answer") ? nowMs() : from) + ttlMs * (1 - marginShare);
    if (until <= nowMs()) return; // it came too late to be worth anything
    if (!isHeld()) {
      watch();
      await losing;
      losing = undefined;
    }
    deadlineMs = Math.max(deadlineMs, until);
    fence.renew(deadlineMs);
    watch();
  }

  watch();
  return {
    isHeld,
    sent(sequence) {
      if (sequence === 0n) sentMs.clear(); // a new session counts anew
      if (sentMs.size < unansweredLimit) sentMs.set(sequence, nowMs());
    },
    async welcomed(ms) {
      ttlMs = ms;
      await acknowledged(0n);
    },
    acknowledged,
    [Symbol.dispose]: () => timer?.[Symbol.dispose](),
  };
}
