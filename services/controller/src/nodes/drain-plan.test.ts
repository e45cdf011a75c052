import { DrainAction } from "@pitwall/proto/pitwall/v1/node.ts";
import { expect, test } from "vitest";
import { drainPlan, type DrainedVm, type Target } from "./drain-plan.ts";

const amounts = (n: bigint): { cpuMillis: bigint; memBytes: bigint; diskBytes: bigint } => ({ cpuMillis: n, memBytes: n, diskBytes: n });
const vm = (id: string, runs: boolean, mayMove: boolean): DrainedVm => ({ id, name: id, runs, mayMove, ...amounts(10n) });
const target = (id: string, room: bigint, ready = true): Target => ({
  id,
  name: id,
  ready,
  capacity: amounts(room),
  allocated: amounts(0n),
});

test("a VM moves where its policy allows it and another node has room, stops where it does not, and stays where none has", () => {
  const vms = [vm("idle", false, true), vm("held", true, false), vm("one", true, true), vm("two", true, true), vm("three", true, true)];
  const steps = drainPlan(vms, [target("a", 10n), target("b", 15n), target("away", 99n, false)]);
  expect(steps.map(({ vmName, action, toNodeName }) => [vmName, action, toNodeName])).toEqual([
    ["idle", DrainAction.DRAIN_ACTION_NONE, ""],
    ["held", DrainAction.DRAIN_ACTION_STOP, ""],
    ["one", DrainAction.DRAIN_ACTION_MOVE, "b"],
    ["two", DrainAction.DRAIN_ACTION_MOVE, "a"],
    ["three", DrainAction.DRAIN_ACTION_STAY, ""],
  ]);
});
