// Where controllers are: those that one of them has just named, and behind them a few that were there before.
import { z } from "zod";

/** `host:port` each. */
export const controllerAddress = z.object({ api: z.string(), link: z.string() });
export type ControllerAddress = Readonly<z.output<typeof controllerAddress>>;

const maxNamed = 64;
/** One that is away while the others are named may be the only one that is there a moment later. */
const maxBefore = 3;

/** The latest first. What names none tells nothing. */
export function learned(named: readonly ControllerAddress[], before: readonly ControllerAddress[]): readonly ControllerAddress[] {
  if (named.length === 0) return before;
  const fresh = named
    .slice(0, maxNamed)
    .map(({ api, link }) => ({ api, link }))
    .toSorted((a, b) => (a.link < b.link ? -1 : 1));
  const others = before.filter(({ link }) => !fresh.some((one) => one.link === link));
  return [...fresh, ...others.slice(0, maxBefore)];
}
