import { expect, test } from "vitest";
import { lifeOf, mayJudge, patienceOf } from "./liveness.ts";

const open = { leaseExpireMs: 10_000, endMs: undefined, lostMs: undefined };
const patience = patienceOf(10_000);

test("a node without a session was never there", () => {
  expect(lifeOf(undefined, 0)).toBe("unreachable");
});

test("a node is ready while its link is up and its lease runs, and no longer", () => {
  expect(lifeOf(open, 9_999)).toBe("ready");
  expect(lifeOf(open, 10_000)).toBe("unreachable");
});

test("a link that ended makes a node unreachable at once, however long its lease", () => {
  expect(lifeOf({ ...open, endMs: 1 }, 2)).toBe("unreachable");
});

test("lost is lost until the next hello, which makes another session", () => {
  expect(lifeOf({ ...open, lostMs: 1 }, 2)).toBe("lost");
  expect(lifeOf({ ...open, endMs: 1, lostMs: 1 }, 20_000)).toBe("lost");
});

test("a node is given up 15 s after its last renewal, when its fence has surely done its work", () => {
  const trustMs = 0.9 * patience.leaseMs;
  const killMs = 2_000;
  const clockRate = 1.01;
  expect(patience.leaseMs + patience.fenceMs).toBe(15_000);
  expect((trustMs + killMs) * clockRate).toBeLessThan(patience.leaseMs + patience.fenceMs);
});

test("a controller that was away judges nobody before each node could have come back to it", () => {
  expect(mayJudge(0, patience)).toBe(false);
  expect(mayJudge(14_999, patience)).toBe(false);
  expect(mayJudge(15_000, patience)).toBe(true);
});
