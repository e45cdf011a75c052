// Randomness as a parameter.
import { createHash } from "node:crypto";
import { uniformFloat64 } from "pure-rand/distribution/uniformFloat64";
import { xoroshiro128plus } from "pure-rand/generator/xoroshiro128plus";

/** Yields numbers in [0, 1). */
export type Random = () => number;

export const systemRandom: Random = Math.random;

/** The same labels give the same numbers, whatever else was drawn before: one generator for each thing that is decided. Not for secrets. */
export function seededRandom(...labels: readonly (string | number | bigint)[]): Random {
  const generator = xoroshiro128plus(createHash("sha256").update(labels.join("\0")).digest().readInt32LE());
  return () => uniformFloat64(generator);
}
