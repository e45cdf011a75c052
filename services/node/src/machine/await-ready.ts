// Waits for a guest to say that it is ready, for as long as a boot may take.
import { GuestState, type WatchStateResponse } from "@pitwall/proto/pitwall/v1/guest.ts";
import { timeLimit } from "@pitwall/runtime";
import type { Bell } from "./bell.ts";
import type { MachineHost } from "./host.ts";

export interface Awaited {
  /** Rings when the guest says something, and when its VMM has ended. */
  readonly bell: Bell;
  readonly said: () => WatchStateResponse | undefined;
  readonly hasEnded: () => boolean;
}

/** Readings of the monotonic clock. */
export interface ReadyTimes {
  readonly started: number;
  readonly firstWord: number;
  readonly ready: number;
}

/** What came of it: `interrupted` by the signal or the VMM's end. */
export async function awaitReady(
  { clock, bootLimitMs }: Pick<MachineHost, "clock" | "bootLimitMs">,
  { bell, said, hasEnded }: Awaited,
  signal: AbortSignal,
): Promise<ReadyTimes | "too late" | "interrupted"> {
  const started = clock.monotonicMs();
  using limit = timeLimit(clock, bootLimitMs);
  const deadline = AbortSignal.any([signal, limit.signal]);
  let firstWord: number | undefined;
  while (!hasEnded()) {
    const state = said()?.state;
    if (state !== undefined) firstWord ??= clock.monotonicMs();
    if (state === GuestState.GUEST_STATE_READY) return { started, firstWord: firstWord ?? started, ready: clock.monotonicMs() };
    if (deadline.aborted) break;
    await bell.next(deadline);
  }
  return signal.aborted || hasEnded() ? "interrupted" : "too late";
}
