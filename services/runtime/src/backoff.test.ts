import fc from "fast-check";
import { expect, it } from "vitest";
import { backoff } from "./backoff.ts";

it("grows to its limit and starts over after a reset", () => {
  const wait = backoff(100, 1000, () => 0.999);
  expect([wait.nextMs(), wait.nextMs(), wait.nextMs(), wait.nextMs(), wait.nextMs()]).toEqual([99, 199, 399, 799, 999]);
  wait.reset();
  expect(wait.nextMs()).toBe(99);
});

it("never waits longer than its limit", () => {
  fc.assert(
    fc.property(fc.double({ min: 0, max: 0.999999, noNaN: true }), fc.integer({ min: 1, max: 60 }), (random, tries) => {
      const wait = backoff(200, 5000, () => random);
      for (let i = 0; i < tries; i++) expect(wait.nextMs()).toBeLessThan(5000);
    }),
  );
});
