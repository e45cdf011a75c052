import { expect, it } from "vitest";
import { Slots } from "./slots.ts";

const never = new AbortController().signal;

it("runs as many at once as it has places, in the order they came", async () => {
  const slots = new Slots(2);
  const running: number[] = [];
  const gates = Array.from({ length: 4 }, () => Promise.withResolvers<void>());
  const begun = gates.map(() => Promise.withResolvers<void>());
  const all = gates.map(({ promise }, at) =>
    slots.use(never, async () => {
      running.push(at);
      begun[at]?.resolve();
      await promise;
    }),
  );
  await begun[1]?.promise;
  expect(running).toEqual([0, 1]);
  gates[1]?.resolve();
  await begun[2]?.promise;
  expect(running).toEqual([0, 1, 2]);
  for (const gate of gates) gate.resolve();
  await Promise.all(all);
  expect(running).toEqual([0, 1, 2, 3]);
});

it("gives the place on when work fails, and forgets who has left", async () => {
  const slots = new Slots(1);
  const gate = Promise.withResolvers<void>();
  const first = slots.use(never, () => gate.promise);
  const leaving = new AbortController();
  const second = slots.use(leaving.signal, async () => "never");
  const third = slots.use(never, async () => "third");
  leaving.abort(new Error("left"));
  await expect(second).rejects.toThrow("left");
  gate.reject(new Error("failed"));
  await expect(first).rejects.toThrow("failed");
  expect(await third).toBe("third");
  expect(await slots.use(never, async () => "fourth")).toBe("fourth");
});
