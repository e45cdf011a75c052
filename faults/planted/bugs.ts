// The planted bugs: what each breaks, and who must find it. docs/faults.md tells the same in words.
import type { PlantedBug } from "@pitwall/runtime";

/** A test that guards against a bug that needs more than the layer sim has. */
export interface Guard {
  readonly project: "unit" | "integration" | "e2e";
  readonly file: string;
  /** Its name, whole or the beginning. */
  readonly test: string;
}

/** Found by schedules of the layer sim that break one of these invariants. */
export interface Hunted {
  readonly by: "sim";
  readonly shows: readonly string[];
}

/** In the order of the list that docs/faults.md numbers from 1. */
export const hunters: Readonly<Record<PlantedBug, Hunted | ({ readonly by: "test" } & Guard)>> = {
  "skip-generation-check": { by: "sim", shows: ["I4", "I5", "I8", "I9"] },
  "journal-after-effect": { by: "sim", shows: ["I2", "I4", "I6", "I8"] },
  "no-fsync": { by: "sim", shows: ["I4", "I5", "I6", "I8"] },
  "release-before-exit": { by: "sim", shows: ["I5", "I6"] },
  "pid-alone": {
    by: "test",
    project: "integration",
    file: "services/node/tests/vmm-contract.test.ts",
    test: "does not adopt a process that has the pid and another start time",
  },
  "lease-by-wall-clock": { by: "sim", shows: ["I2"] },
  "trust-from-answer": { by: "sim", shows: ["I2"] },
  "judge-at-once": { by: "sim", shows: ["I13"] },
  "old-session-writes": {
    by: "test",
    project: "integration",
    file: "services/controller/tests/node-sessions.test.ts",
    test: "the database refuses what a session that was overtaken has still to say",
  },
  "no-fence-budget": { by: "sim", shows: ["I2", "I13"] },
  "gateway-ignores-epoch": {
    by: "test",
    project: "unit",
    file: "services/gateway/src/tunnels/placements.test.ts",
    test: "ways to an older placement end when a later one is heard of",
  },
  "partial-is-complete": { by: "sim", shows: ["I4"] },
  "forget-on-send": { by: "sim", shows: ["I4", "I8"] },
  "watch-skips-on-resume": { by: "sim", shows: ["I11"] },
  "create-twice": { by: "sim", shows: ["I8", "I15"] },
  "cleanup-ignores-errors": { by: "sim", shows: ["I6"] },
  "unbounded-outbox": {
    by: "test",
    project: "unit",
    file: "services/runtime/src/outbox.test.ts",
    test: "fails itself when the consumer does not keep up",
  },
  "allow-without-keys": {
    by: "test",
    project: "unit",
    file: "libs/auth/src/verifier.test.ts",
    test: "while the issuer cannot be reached, as unavailable",
  },
  "fence-with-agent": { by: "sim", shows: ["I2"] },
  "exclusive-migration": {
    by: "test",
    project: "integration",
    file: "services/controller/tests/migration.test.ts",
    test: "two controllers that start at once bring an old database up to date",
  },
};
