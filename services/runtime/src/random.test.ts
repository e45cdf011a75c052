import { expect, test } from "vitest";
import { seededRandom } from "./random.ts";

const draw = (random: () => number): number[] => Array.from({ length: 100 }, random);

test("the same labels draw the same numbers, other labels others, all in [0, 1)", () => {
  const numbers = draw(seededRandom(7, "node-1", "boot"));
  expect(draw(seededRandom(7, "node-1", "boot"))).toEqual(numbers);
  expect(draw(seededRandom(7, "node-2", "boot"))).not.toEqual(numbers);
  expect(numbers.every((number) => number >= 0 && number < 1)).toBe(true);
  expect(new Set(numbers).size).toBe(numbers.length);
});

test("labels do not run into each other", () => {
  expect(draw(seededRandom("ab", "c"))).not.toEqual(draw(seededRandom("a", "bc")));
});
