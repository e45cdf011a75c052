// A plan as people and programs read it.
import { Plan, Vm, type PlannedVm, type Quota } from "@pitwall/sdk";
import type { View } from "../output/format.ts";
import { fieldList, table, type Cell } from "../output/table.ts";
import { byteWord, cpuWord } from "../output/words.ts";

/** Of several VMs at once, one below the other. */
export function planView(plans: readonly PlannedVm[], { isOne }: { readonly isOne: boolean }): View {
  const json = plans.map(({ vm, plan }) => ({ vm: Vm.toJSON(vm), plan: Plan.toJSON(plan) }));
  return {
    table: () => plans.map(planText).join("\n"),
    json: isOne ? json[0] : json,
    names: plans.map(({ plan }) => plan.token),
  };
}

function planText({ vm, plan }: PlannedVm): string {
  const fields: [string, Cell][] = [
    ["VM", vm.name],
    ["Node", plan.nodeName || plan.nodeId],
    ...plan.losses.map((loss): [string, Cell] => ["Lost for good", loss]),
    ["You may", plan.policy],
    ["Quota", quotaWord(plan)],
    ["Token", plan.token],
  ];
  const rejected = plan.rejections.map(({ nodeName, nodeId, reason, message }) => [nodeName || nodeId, reason, message]);
  return `${fieldList(fields)}${rejected.length === 0 ? "" : `\n${table(["NOT ON", "REASON", "WHY"], rejected)}`}`;
}

/** What changes of it, of each resource `before to after of limit`. */
function quotaWord({ quotaBefore: before, quotaAfter: after, quotaLimit: limit }: Plan): string {
  if (!before || !after || !limit) return "";
  const part = (name: string, read: (quota: Quota) => string): string[] =>
    read(before) === read(after) ? [] : [`${name} ${read(before)} to ${read(after)} of ${read(limit)}`];
  return [
    ...part("VMs", ({ vms }) => String(vms)),
    ...part("CPU", ({ cpuMillis }) => cpuWord(Number(cpuMillis))),
    ...part("memory", ({ memBytes }) => byteWord(memBytes)),
    ...part("disk", ({ diskBytes }) => byteWord(diskBytes)),
  ].join(", ");
}
