import { DrainAction } from "@pitwall/proto/pitwall/v1/node.ts";
import { Desired, NodeLossPolicy, VmSpec } from "@pitwall/proto/pitwall/v1/vm.ts";
import { PitwallError } from "@pitwall/runtime";
import { expect, test } from "vitest";
import type { VmRow } from "../store/entities.ts";
import { drainPlan } from "./drain-plan.ts";

const { NODE_LOSS_POLICY_HOLD: hold, NODE_LOSS_POLICY_RESCHEDULE: reschedule } = NodeLossPolicy;
const vm = (name: string, desired: Desired, nodeLossPolicy: NodeLossPolicy): VmRow =>
  ({ id: name, name, desired, spec: VmSpec.toJSON(VmSpec.fromPartial({ nodeLossPolicy })) }) as VmRow; // what a plan looks at

test("a VM moves where its policy allows it and placement finds a node, stops where it does not or it is paused, and stays, and says why, where there is none", () => {
  const vms = [
    vm("idle", Desired.DESIRED_STOPPED, reschedule),
    vm("asleep", Desired.DESIRED_SUSPENDED, reschedule),
    vm("held", Desired.DESIRED_RUNNING, hold),
    vm("paused", Desired.DESIRED_PAUSED, reschedule),
    vm("first", Desired.DESIRED_RUNNING, reschedule),
    vm("last", Desired.DESIRED_RUNNING, reschedule),
  ];
  const nodes = [{ id: "1", name: "b" }];
  const steps = drainPlan(vms, () => {
    const node = nodes.pop();
    if (!node) throw new PitwallError("exhausted", "no node has room for the VM");
    return node;
  });
  expect(steps.map(({ vmName, action, toNodeName }) => [vmName, action, toNodeName])).toEqual([
    ["idle", DrainAction.DRAIN_ACTION_NONE, ""],
    ["asleep", DrainAction.DRAIN_ACTION_NONE, ""],
    ["held", DrainAction.DRAIN_ACTION_STOP, ""],
    ["paused", DrainAction.DRAIN_ACTION_STOP, ""],
    ["first", DrainAction.DRAIN_ACTION_MOVE, "b"],
    ["last", DrainAction.DRAIN_ACTION_STAY, ""],
  ]);
  expect(steps.at(-1)?.message).toBe("it stays until a node may have it: no node has room for the VM");
});
