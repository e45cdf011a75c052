// Where a VM may be placed, as options say it.
import { Option, type Command } from "commander";
import { NodeLossPolicy, PlacementStrategy, type Placement, type VmSpec } from "@pitwall/sdk";
import { addItem } from "./pairs.ts";

const strategies = {
  spread: PlacementStrategy.PLACEMENT_STRATEGY_SPREAD,
  "bin-pack": PlacementStrategy.PLACEMENT_STRATEGY_BIN_PACK,
} as const;

export interface PlacementOptions {
  readonly requireLabel?: readonly string[];
  readonly preferLabel?: readonly string[];
  readonly strategy?: keyof typeof strategies;
  readonly antiAffinity?: string;
  readonly failureDomain?: string;
  readonly reschedule?: boolean;
}

export function withPlacement(command: Command): Command {
  return command
    .option(
      "--require-label <term>",
      "a label that its node must have: key=value, key!=value, key in (a,b), key, !key; may be repeated",
      addItem,
    )
    .option("--prefer-label <term>", "a label that its node had better have; may be repeated", addItem)
    .addOption(new Option("--strategy <strategy>", "which of the nodes with room").choices(Object.keys(strategies)))
    .option("--anti-affinity <label>", "a label of VMs: those of the project with the same value are kept apart")
    .option("--failure-domain <label>", "a label of nodes, such as zone, whose values fail together")
    .option("--reschedule", "begin anew on another node, with an empty disk, when its node is lost");
}

export function placementOf(options: PlacementOptions): Pick<VmSpec, "placement" | "nodeLossPolicy"> {
  const { requireLabel = [], preferLabel = [], strategy, antiAffinity = "", failureDomain = "", reschedule = false } = options;
  const placement: Placement = {
    requireLabels: [...requireLabel],
    preferLabels: [...preferLabel],
    strategy: strategy === undefined ? PlacementStrategy.PLACEMENT_STRATEGY_UNSPECIFIED : strategies[strategy],
    antiAffinityLabel: antiAffinity,
    failureDomainLabel: failureDomain,
  };
  const isPlain = requireLabel.length + preferLabel.length === 0 && strategy === undefined && antiAffinity === "" && failureDomain === "";
  return {
    placement: isPlain ? undefined : placement,
    nodeLossPolicy: reschedule ? NodeLossPolicy.NODE_LOSS_POLICY_RESCHEDULE : NodeLossPolicy.NODE_LOSS_POLICY_UNSPECIFIED,
  };
}
