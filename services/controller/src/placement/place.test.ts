import fc from "fast-check";
import { expect, it } from "vitest";
import { choose, hasRoom, type Amounts, type Candidate } from "./place.ts";

const amounts = fc.record({ cpuMillis: fc.bigInt(0n, 64_000n), memBytes: fc.bigInt(0n, 2n ** 40n), diskBytes: fc.bigInt(0n, 2n ** 44n) });
const candidate = fc.record({ id: fc.uuid(), ready: fc.boolean(), capacity: amounts, allocated: amounts });
const candidates = fc.uniqueArray(candidate, { maxLength: 20, selector: ({ id }) => id });

const attempt = (nodes: readonly Candidate[], wanted: Amounts): Candidate | undefined => {
  try {
    return choose(nodes, wanted);
  } catch {
    return undefined;
  }
};

it("never chooses a node that is not ready or has no room", () => {
  fc.assert(
    fc.property(candidates, amounts, (nodes, wanted) => {
      const chosen = attempt(nodes, wanted);
      expect(chosen === undefined || (chosen.ready && hasRoom(chosen, wanted))).toBe(true);
    }),
  );
});

it("finds a node whenever there is one", () => {
  fc.assert(
    fc.property(candidates, amounts, (nodes, wanted) => {
      const exists = nodes.some((node) => node.ready && hasRoom(node, wanted));
      expect(attempt(nodes, wanted) !== undefined).toBe(exists);
    }),
  );
});

it("chooses the same whatever the order of the nodes", () => {
  fc.assert(
    fc.property(candidates, amounts, (nodes, wanted) => {
      expect(attempt(nodes.toReversed(), wanted)?.id).toBe(attempt(nodes, wanted)?.id);
    }),
  );
});

const node = (memBytes: bigint, ready = true): Candidate => ({
  id: "n",
  ready,
  capacity: { cpuMillis: 4000n, memBytes, diskBytes: 2n ** 40n },
  allocated: { cpuMillis: 0n, memBytes: 0n, diskBytes: 0n },
});
const wanted = { cpuMillis: 1000n, memBytes: 2n ** 30n, diskBytes: 0n };

it("names what is short, what was wanted and what there is", () => {
  expect(() => choose([node(2n ** 29n)], wanted)).toThrow(
    "not enough memory (wanted 1024 MiB, free at most 512 MiB); stop or delete VMs, or add a node",
  );
});

it("says that no node is ready before it says that none has room", () => {
  expect(() => choose([node(2n ** 40n, false)], wanted)).toThrow("no node is ready");
});
