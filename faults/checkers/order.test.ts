import fc from "fast-check";
import { expect, test } from "vitest";
import { hasOrder, type Step } from "./order.ts";

/** A register: a write of n, or a read that saw n. */
interface Seen {
  readonly writes: boolean;
  readonly value: number;
  readonly fromMs: number;
  readonly toMs: number;
}

function toStep({ writes, value, fromMs, toMs }: Seen): Step<number> {
  return { fromMs, toMs, from: (state) => (writes ? [value] : state === value ? [state] : []) };
}

const fits = (seen: readonly Seen[]): boolean => hasOrder(seen.map(toStep), 0, String);

/** The same by trying every order. */
function fitsByTrying(seen: readonly Seen[], state = 0): boolean {
  if (seen.every(({ toMs }) => toMs === Infinity)) return true;
  return seen.some((one, at) => {
    const others = seen.filter((_, other) => other !== at);
    if (others.some(({ toMs }) => toMs < one.fromMs)) return false;
    return (one.writes || one.value === state) && fitsByTrying(others, one.writes ? one.value : state);
  });
}

const anySeen = fc
  .record({
    writes: fc.boolean(),
    value: fc.integer({ min: 0, max: 3 }),
    fromMs: fc.integer({ min: 0, max: 20 }),
    forMs: fc.integer({ min: 0, max: 10 }),
    ends: fc.integer({ min: 0, max: 9 }),
  })
  .map(({ writes, value, fromMs, forMs, ends }): Seen => ({
    writes,
    value,
    fromMs,
    toMs: writes && ends === 0 ? Infinity : fromMs + forMs,
  }));

test("the search finds an order exactly where trying all of them does", () => {
  const found = new Set<boolean>();
  fc.assert(
    fc.property(fc.array(anySeen, { maxLength: 6 }), (seen) => {
      const answer = fits(seen);
      found.add(answer);
      return answer === fitsByTrying(seen);
    }),
    { numRuns: 500, seed: 1 },
  );
  expect(found).toEqual(new Set([true, false]));
});

test("many writes at once and one read that saw none of them are refused in good time", () => {
  const writes = Array.from({ length: 12 }, (_, at): Seen => ({ writes: true, value: at % 3, fromMs: 0, toMs: 10 }));
  expect(fits([...writes, { writes: false, value: 9, fromMs: 20, toMs: 21 }])).toBe(false);
});
