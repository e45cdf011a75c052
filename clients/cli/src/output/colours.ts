// Colours, where the output takes them.
import colours from "picocolors";

/** What each paints: text in, text out; the same text where there are no colours. */
export interface Colours {
  readonly green: (text: string) => string;
  readonly yellow: (text: string) => string;
  readonly red: (text: string) => string;
  readonly dim: (text: string) => string;
}

export function openColours(hasColour: boolean): Colours {
  return colours.createColors(hasColour);
}

/** A terminal, no NO_COLOR (no-color.org), and not the terminal that knows none. */
export function takesColour(isTerminal: boolean, env: Readonly<Record<string, string | undefined>>): boolean {
  return isTerminal && (env["NO_COLOR"] ?? "") === "" && env["TERM"] !== "dumb";
}
