// Long times as people write them: how long a token lives, or a removed VM is kept.
import { InvalidArgumentError } from "commander";

const unitMs = { s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const;

/** Milliseconds from `0`, `90s`, `12h` or `30d`. Throws `InvalidArgumentError`. */
export function parseLifeMs(text: string): number {
  if (text === "0") return 0;
  const match = /^(\d{1,6})([smhd])$/.exec(text);
  if (!match) throw new InvalidArgumentError("Expected a time such as 90s, 12h or 30d.");
  return Number(match[1]) * unitMs[match[2] as keyof typeof unitMs]; // the pattern admits only the keys
}
