// What a client sends, metered as it comes in, before anything waits for it.
//
// Whatever waits in a stream waits in the pieces that it came in, and one of a byte takes some hundred bytes there: a window of a megabyte would
// hold a hundred. While a call's upstream is being opened, or takes nothing, nobody reads; so pieces are looked at where they are pushed, and
// crumbs are gathered there. No upstream misses them: they end no message.
import type { Readable } from "node:stream";
import { crumbBytes, type Meter } from "./meter.ts";

/** Crumbs go on together once they are so many bytes. */
const mostHeldBytes = 4_096;
const nothing = Buffer.alloc(0);

export interface InletParts {
  readonly meter: Pick<Meter, "take">;
  /** What still comes is of no use. */
  isOver(): boolean;
  /** Hears what the meter throws, once. What comes after that is dropped. */
  fail(error: unknown): void;
}

/** Returns what has come until now, which the caller passes on first. Throws what the meter throws. */
export function meterInlet(body: Readable, { meter, isOver, fail }: InletParts): Buffer | undefined {
  const early: unknown = body.readableLength > 0 ? body.read() : null;
  const push = body.push.bind(body);
  let held = nothing;
  let hasFailed = false;
  const flush = (): boolean => {
    const all = held;
    held = nothing;
    return push(all);
  };
  let willAsk = false;
  /** A stream that was given nothing must be asked to go on. */
  const pushNothing = (): boolean => {
    if (!willAsk)
      process.nextTick(() => {
        willAsk = false;
        if (!body.destroyed) body.read(0);
      });
    willAsk = true;
    return push(nothing);
  };
  body.push = (piece: Buffer | null): boolean => {
    if (piece === null) {
      if (held.length > 0) flush();
      return push(null);
    }
    if (hasFailed || isOver()) return pushNothing();
    let isCrumb = false;
    try {
      isCrumb = meter.take(piece);
    } catch (error) {
      hasFailed = true;
      held = nothing;
      fail(error);
      return pushNothing();
    }
    if (!isCrumb && held.length === 0) return push(piece);
    if (piece.length >= mostHeldBytes) {
      flush();
      return push(piece);
    }
    held = Buffer.concat([held, piece]); // a copy: a crumb that is kept keeps all that was read with it
    return isCrumb && held.length < mostHeldBytes ? pushNothing() : flush();
  };
  if (!Buffer.isBuffer(early)) return undefined;
  meter.take(early);
  return early;
}

/** The same without limits, for bytes that are decoded before they are metered. */
export function gatherInlet(body: Readable): Buffer | undefined {
  const meter = { take: ({ length }: Buffer) => length < crumbBytes };
  return meterInlet(body, { meter, isOver: () => false, fail: () => undefined });
}
