import { expect, it } from "vitest";
import { Outbox } from "./outbox.ts";

async function drain<T>(outbox: Outbox<T>): Promise<T[]> {
  const items: T[] = [];
  for await (const item of outbox) items.push(item);
  return items;
}

it("delivers what waits before it ends", async () => {
  const outbox = new Outbox<number>(3);
  outbox.push(1);
  outbox.push(2);
  outbox.close();
  expect(outbox.push(3)).toBe(false);
  expect(await drain(outbox)).toEqual([1, 2]);
});

it("delivers first what was pushed ahead, each kind in its order, and counts it", async () => {
  const outbox = new Outbox<string>(4);
  outbox.push("a");
  outbox.pushAhead("first");
  outbox.push("b");
  expect([outbox.length, outbox.pushAhead("second"), outbox.pushAhead("one too many")]).toEqual([3, true, false]);
  expect(outbox.length).toBe(0);
  const kept = new Outbox<string>(4);
  for (const item of ["a", "b"]) kept.push(item);
  for (const item of ["first", "second"]) kept.pushAhead(item);
  kept.close();
  expect(await drain(kept)).toEqual(["first", "second", "a", "b"]);
});

it("wakes a consumer that waits", async () => {
  const outbox = new Outbox<number>(3);
  const all = drain(outbox);
  await Promise.resolve();
  outbox.push(7);
  outbox.close();
  expect(await all).toEqual([7]);
});

it("fails itself when the consumer does not keep up", async () => {
  const outbox = new Outbox<number>(2);
  expect([outbox.push(1), outbox.push(2), outbox.push(3)]).toEqual([true, true, false]);
  expect(outbox.isOpen).toBe(false);
  await expect(drain(outbox)).rejects.toThrow("the peer does not read: 2 messages are waiting");
});

it("is closed when the consumer leaves early", async () => {
  const outbox = new Outbox<number>(2);
  outbox.push(1);
  for await (const _ of outbox) break;
  expect(outbox.push(2)).toBe(false);
});
