import { VirtualClock } from "@pitwall/runtime";
import { expect, it } from "vitest";
import { Turns } from "./turns.ts";

const limitMs = 1_000;

/** Work that ends when it is told to. */
function held(turns: Turns): { readonly isBegun: () => boolean; readonly end: () => void; readonly done: Promise<void> } {
  let begun = false;
  const { promise, resolve } = Promise.withResolvers<void>();
  const done = turns.take(() => {
    begun = true;
    return promise;
  });
  done.catch(() => undefined);
  return { isBegun: () => begun, end: resolve, done };
}

it("begins as many as it may, and each of the others when one has ended, in their order", async () => {
  const turns = new Turns(2, limitMs, new VirtualClock());
  const all = [1, 2, 3, 4].map(() => held(turns));
  const begun = (): boolean[] => all.map(({ isBegun }) => isBegun());
  expect(begun()).toEqual([true, true, false, false]);
  all[1]?.end();
  await all[1]?.done;
  await expect.poll(begun).toEqual([true, true, true, false]);
  for (const { end } of all) end();
  await Promise.all(all.map(({ done }) => done));
});

it("gives the turn of work that fails to the next", async () => {
  const turns = new Turns(1, limitMs, new VirtualClock());
  const failing = turns.take(() => Promise.reject(new Error("no")));
  const next = turns.take(async () => "yes");
  await expect(failing).rejects.toThrow("no");
  await expect(next).resolves.toBe("yes");
});

it("refuses who waits too long, whose turn then is another one's", async () => {
  const clock = new VirtualClock();
  const turns = new Turns(1, limitMs, clock);
  const first = held(turns);
  const late = held(turns);
  await clock.advance(limitMs);
  await expect(late.done).rejects.toMatchObject({ fault: "unavailable", reason: "DATABASE_UNAVAILABLE" });
  const next = held(turns);
  first.end();
  await expect.poll(next.isBegun).toBe(true);
  expect(late.isBegun()).toBe(false);
  next.end();
  await next.done;
  expect(clock.pending).toBe(0);
});

it("gives no more turns once it is over, and lets end what was begun", async () => {
  const turns = new Turns(1, limitMs, new VirtualClock());
  const [first, waiting] = [held(turns), held(turns)];
  turns.end();
  const refused = { fault: "unavailable", reason: "DRAINING" };
  await expect(waiting.done).rejects.toMatchObject(refused);
  await expect(turns.take(async () => undefined)).rejects.toMatchObject(refused);
  first.end();
  await expect(first.done).resolves.toBeUndefined();
});
