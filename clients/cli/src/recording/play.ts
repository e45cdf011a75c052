// Shows a recording on this terminal: with the pauses that it had, or as it comes.
import { setTimeout as delay } from "node:timers/promises";
import { LogText, plain } from "../output/terminal-text.ts";
import type { Shell } from "../shell.ts";
import { castEvents } from "./cast.ts";
import { ScreenText } from "./screen-text.ts";

export interface Pace {
  /** 2 is twice as fast. */
  readonly speed: number;
  /** The longest pause, in milliseconds before it is made shorter; undefined: as it was. */
  readonly idleMs: number | undefined;
}

/** `pace` undefined: without pauses. Into a file or pipe goes text alone, at once. Resolves at the end of the recording. */
export async function play(shell: Shell, pieces: AsyncIterable<Uint8Array>, pace: Pace | undefined): Promise<void> {
  const { signal } = shell.signals;
  const screen = new ScreenText();
  const log = new LogText(false);
  const encoder = new TextEncoder();
  let atMs = 0;
  let end = "";
  try {
    for await (const { seconds, code, data } of castEvents(pieces)) {
      signal.throwIfAborted();
      if (pace && shell.outIsTerminal) {
        const pauseMs = Math.max(0, Math.min(seconds * 1_000 - atMs, pace.idleMs ?? Infinity)) / pace.speed;
        if (pauseMs >= 1) await pause(pauseMs, signal);
      }
      atMs = seconds * 1_000;
      if (code === "o") shell.out(shell.outIsTerminal ? screen.push(data) : log.push(encoder.encode(data)));
      if (code === "m") end = data;
    }
  } finally {
    if (shell.outIsTerminal) shell.out(screen.reset());
  }
  shell.note(`\nthe recording ends${end === "" ? "" : `: ${plain(end)}`}`);
}

/** Timers take at most some 24 days. */
async function pause(ms: number, signal: AbortSignal): Promise<void> {
  await delay(Math.min(ms, 2 ** 31 - 1), undefined, { signal }).catch((error: unknown) => {
    signal.throwIfAborted(); // with why it was
    throw error;
  });
}
