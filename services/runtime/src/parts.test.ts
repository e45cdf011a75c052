import fc from "fast-check";
import { expect, test } from "vitest";
import { inParts, partOf, Whole } from "./parts.ts";

test("a list comes out of its parts as it went in, and none of them is too large", () => {
  fc.assert(
    fc.property(fc.array(fc.nat(120)), (sizes) => {
      const parts = inParts(sizes, (size) => size, 100);
      for (const part of parts) if (part.length > 1) expect(part.reduce((sum, size) => sum + size, 0)).toBeLessThanOrEqual(100);
      const whole = new Whole<number>(1_000);
      const said = parts.map((part, index) => whole.add(part, partOf(index, parts.length)));
      expect(said.pop()).toEqual(sizes);
      expect(said.every((early) => early === undefined)).toBe(true);
    }),
  );
});

test("a list of which a part is missing, doubled or out of its order is none; the next first part begins anew", () => {
  const whole = new Whole<string>(5);
  const part = (at: number, of: number): readonly string[] | undefined => whole.add([String(at)], { part: at, partCount: of });
  for (const order of [[2], [1, 3], [1, 2, 2], [1, 2, 4], [0]]) {
    for (const at of order.slice(0, -1)) expect(part(at, 3)).toBeUndefined();
    expect(() => part(order.at(-1) ?? 0, 3)).toThrow(/came after part/);
  }
  expect(part(1, 3)).toBeUndefined();
  expect(() => part(2, 2)).toThrow(/came after part 1 of 3/);
  expect(part(1, 2)).toBeUndefined();
  expect(part(2, 2)).toEqual(["1", "2"]);
  expect(whole.add(["alone"], {})).toEqual(["alone"]);
});

test("a list has an end", () => {
  const whole = new Whole<number>(5);
  expect(whole.add([1, 2, 3], { part: 1, partCount: 1_000 })).toBeUndefined();
  expect(() => whole.add([4, 5, 6], { part: 2, partCount: 1_000 })).toThrow("more than 5");
});
