// What passes through the channels of the SSH library, and whether the other side keeps to its window.
//
// The library (1.17, upstream issue 1505) only looks whether a window is zero: who sends more than it was granted makes it hold all of that
// in memory. It keeps count, though, in fields of its own, and there we watch it.
import type { Channel } from "ssh2";

export interface ChannelWatch {
  /** Bytes went one way or the other. */
  moved?(): void;
  /** The other side sent more than it was granted. */
  overran(): void;
}

/** Throws TypeError when the library has no such fields: of another version, it must be looked at again. */
export function watchChannel(channel: Channel, { moved, overran }: ChannelWatch): void {
  watchWindow(channel, "incoming", (before, after) => {
    if (after < before) moved?.();
    if (after < 0) overran();
  });
  watchWindow(channel, "outgoing", (before, after) => {
    if (after < before) moved?.();
  });
}

function watchWindow(channel: Channel, way: "incoming" | "outgoing", onChange: (before: number, after: number) => void): void {
  const state: unknown = Reflect.get(channel, way);
  const initial: unknown = typeof state === "object" && state !== null ? Reflect.get(state, "window") : undefined;
  if (typeof state !== "object" || state === null || typeof initial !== "number")
    throw new TypeError(`the SSH library keeps no ${way} window where it used to`);
  let window = initial;
  Object.defineProperty(state, "window", {
    get: () => window,
    set(next: number) {
      const before = window;
      window = next;
      onChange(before, next);
    },
  });
}
