// Bugs on purpose, one at a time: whether the fault campaign finds them says what it is worth (docs/faults.md). In production there is
// none: only `plantFrom` plants one, with the same leave that failpoints need.
//
// The one that is planted is this process's, and no parameter, so that what it breaks looks as it does without it.
import { PitwallError } from "./errors.ts";
import { requireLeave } from "./leave.ts";
import type { Log } from "./log.ts";

/** In the order of docs/faults.md. */
export const plantedBugs = [
  "skip-generation-check",
  "journal-after-effect",
  "no-fsync",
  "release-before-exit",
  "pid-alone",
  "lease-by-wall-clock",
  "trust-from-answer",
  "judge-at-once",
  "old-session-writes",
  "no-fence-budget",
  "gateway-ignores-epoch",
  "partial-is-complete",
  "forget-on-send",
  "watch-skips-on-resume",
  "create-twice",
  "cleanup-ignores-errors",
  "unbounded-outbox",
  "allow-without-keys",
  "fence-with-agent",
  "exclusive-migration",
] as const;

export type PlantedBug = (typeof plantedBugs)[number];

let current: PlantedBug | undefined;

/** Whether this bug is there. It stands beside the line that it breaks. */
export function planted(bug: PlantedBug): boolean {
  return current === bug;
}

/** Plants the bug that PITWALL_PLANTED names, if any. Throws `invalid` for one that there is not, and where it is not allowed. */
export function plantFrom(env: NodeJS.ProcessEnv, log: Log): void {
  const name = env["PITWALL_PLANTED"];
  if (!name) return;
  requireLeave(env, "PITWALL_PLANTED");
  const bug = plantedBugs.find((known) => known === name);
  if (!bug)
    throw new PitwallError("invalid", `PITWALL_PLANTED: there is no bug ${JSON.stringify(name)}; there are ${plantedBugs.join(", ")}`, {
      reason: "INVALID_CONFIG",
      field: "PITWALL_PLANTED",
    });
  current = bug;
  log.warn("A BUG IS PLANTED: this process is wrong on purpose", { bug });
}
