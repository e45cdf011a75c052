// Where a VM may be placed, as its spec says it: label terms are read, everything is checked.
import { labelKey as key, labelValue as value } from "@pitwall/enroll";
import { NodeLossPolicy, PlacementStrategy, type Placement, type VmSpec } from "@pitwall/proto/pitwall/v1/vm.ts";
import { invalid } from "@pitwall/runtime";
import type { LabelTerm } from "../placement/wanted.ts";

const maxTerms = 32;
const maxPreferences = 16;
const maxValues = 32;
const keyOnly = new RegExp(`^${key}$`);
const comparison = new RegExp(`^(${key})\\s*(!?=)\\s*(${value})$`);
const membership = new RegExp(`^(${key})\\s+(in|notin)\\s*\\(([^()]*)\\)$`);
const presence = new RegExp(`^(!?)\\s*(${key})$`);
const oneValue = new RegExp(`^${value}$`);

/** `key=value`, `key!=value`, `key in (a,b)`, `key notin (a,b)`, `key` or `!key`. Throws `invalid` naming the field. */
export function parseLabelTerm(text: string, field: string): LabelTerm {
  const trimmed = text.trim();
  const [, comparedKey, sign, compared] = comparison.exec(trimmed) ?? [];
  if (comparedKey !== undefined && compared !== undefined)
    return { op: sign === "=" ? "in" : "not-in", key: comparedKey, values: [compared] };
  const [, memberKey, op, list] = membership.exec(trimmed) ?? [];
  if (memberKey !== undefined && list !== undefined) {
    const values = list.split(",").map((each) => each.trim());
    if (values.length <= maxValues && values.every((each) => oneValue.test(each) && each !== ""))
      return { op: op === "in" ? "in" : "not-in", key: memberKey, values };
  }
  const [, not, presentKey] = presence.exec(trimmed) ?? [];
  if (presentKey !== undefined) return { op: not === "!" ? "absent" : "exists", key: presentKey };
  throw invalid(
    field,
    `must be key=value, key!=value, key in (a,b), key notin (a,b), key or !key, got ${JSON.stringify(text.slice(0, 80))}`,
  );
}

/** Throws `invalid` naming the first bad field. */
export function checkPlacement({ placement, nodeLossPolicy }: Pick<VmSpec, "placement" | "nodeLossPolicy">): void {
  if (nodeLossPolicy < 0 || nodeLossPolicy > NodeLossPolicy.NODE_LOSS_POLICY_RESCHEDULE)
    throw invalid("spec.node_loss_policy", `must be a policy that this version knows, got ${nodeLossPolicy}`);
  if (!placement) return;
  const { strategy, antiAffinityLabel, failureDomainLabel } = placement;
  termsOf(placement);
  if (strategy < 0 || strategy > PlacementStrategy.PLACEMENT_STRATEGY_BIN_PACK)
    throw invalid("spec.placement.strategy", `must be a strategy that this version knows, got ${strategy}`);
  if (antiAffinityLabel !== "" && !keyOnly.test(antiAffinityLabel))
    throw invalid("spec.placement.anti_affinity_label", `must be a label's key, got ${JSON.stringify(antiAffinityLabel.slice(0, 80))}`);
  if (failureDomainLabel !== "" && !keyOnly.test(failureDomainLabel))
    throw invalid("spec.placement.failure_domain_label", `must be a label's key, got ${JSON.stringify(failureDomainLabel.slice(0, 80))}`);
}

interface Terms {
  readonly required: readonly LabelTerm[];
  readonly preferred: readonly LabelTerm[];
}

/** Throws `invalid` naming the first bad one. */
export function termsOf({ requireLabels, preferLabels }: Placement): Terms {
  if (requireLabels.length > maxTerms)
    throw invalid("spec.placement.require_labels", `holds ${requireLabels.length} terms; the limit is ${maxTerms}`);
  if (preferLabels.length > maxPreferences)
    throw invalid("spec.placement.prefer_labels", `holds ${preferLabels.length} terms; the limit is ${maxPreferences}`);
  return {
    required: requireLabels.map((text, at) => parseLabelTerm(text, `spec.placement.require_labels[${at}]`)),
    preferred: preferLabels.map((text, at) => parseLabelTerm(text, `spec.placement.prefer_labels[${at}]`)),
  };
}
