// What a command waits for, on stderr: one line that is overwritten on a terminal, one line per step elsewhere.
import { plain } from "./terminal-text.ts";

const clearLine = "\r\u001b[2K";
const tickMs = 100;

export interface ProgressOutput {
  readonly write: (text: string) => void;
  readonly isTerminal: boolean;
  /** A clock that never jumps. */
  readonly nowMs: () => number;
}

/** Begins with no step. Disposing it leaves the terminal's line empty. */
export interface Progress extends Disposable {
  /** Says what is happening now; the same words again change nothing. */
  step(text: string): void;
}

export function openProgress({ write, isTerminal, nowMs }: ProgressOutput): Progress {
  const startMs = nowMs();
  let current = "";
  const draw = (): void => write(`${clearLine}${current} (${((nowMs() - startMs) / 1000).toFixed(1)} s)`);
  const timer = isTerminal ? setInterval(() => current !== "" && draw(), tickMs) : undefined;
  timer?.unref();
  return {
    step(text) {
      const next = plain(text);
      if (next === current) return;
      current = next;
      if (isTerminal) draw();
      else write(`${current}\n`);
    },
    [Symbol.dispose]() {
      clearInterval(timer);
      if (isTerminal && current !== "") write(clearLine);
    },
  };
}
