// Asks a guest to shut down, and ends it when it does not.
import { timeLimit, toDuration, type Clock, type Log } from "@pitwall/runtime";
import type { GuestWatch } from "./guest-watch.ts";
import type { Vmm } from "./vmm.ts";

/** For the image's own process. */
const graceMs = 10_000;
/** For powerunit, beyond that. */
const haltMs = 5_000;
const askLimitMs = 2_000;

/** Resolves when the VMM is gone. */
export async function shutDown(vmm: Vmm, watch: GuestWatch | undefined, clock: Clock, log: Log): Promise<void> {
  using limit = timeLimit(clock, graceMs + haltMs);
  const { signal } = limit;
  using asking = timeLimit(clock, askLimitMs);
  const guest = await watch?.guest(asking.signal);
  await guest?.control
    .shutdown({ grace: toDuration(graceMs) }, { signal })
    .catch((error: unknown) => log.debug("shutdown was not answered", { error }));
  const timer = new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
  if (guest) await Promise.race([vmm.exited, timer]);
  await vmm.kill();
}
