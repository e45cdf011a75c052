// What a command may touch of the process that runs it.
import type { Signals } from "./signals.ts";

export interface Shell {
  readonly env: Readonly<Record<string, string | undefined>>;
  /** The folder that relative paths are of. */
  readonly folder: string;
  readonly signals: Signals;
  /** Data, to stdout. */
  out(text: string | Uint8Array): void;
  /** A sentence for a person, to stderr. */
  note(text: string): void;
  /** Characters to stderr as they are. */
  err(text: string): void;
  readonly outIsTerminal: boolean;
  readonly errIsTerminal: boolean;
  /** Whether stdout takes colours: a terminal, and no NO_COLOR. */
  readonly hasColour: boolean;
  /** Asks a person, who answers in one line; absent when nobody is there to be asked. */
  readonly ask: ((question: string) => Promise<string>) | undefined;
  /** Ends with another program's exit code, once the command is done. */
  endWith(exitCode: number): void;
  /** Wall-clock milliseconds since the epoch. */
  wallMs(): number;
  /** Milliseconds on a clock that never jumps. */
  monotonicMs(): number;
}
