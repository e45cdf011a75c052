// Which nodes heed rules for what a VM sends, and limits of its bandwidth, in the words of placement. Pure.
import type { Labels, LabelTerm } from "./wanted.ts";

/** Of agents that heed them, where they have a subnet: docs/link.md. */
export const heedingCapability = 7;
/** The same of those that limit bandwidth. */
export const pacingCapability = 11;

/** No label that anybody can give: it is what a node is, as its agent says it. */
const key = "network with rules of VMs";
const pacingKey = "network with bandwidths of VMs";

/** What placement sees beside a node's own labels. */
export function heedingLabel(node: { readonly capability: number; readonly hasSubnet: boolean }): Labels {
  if (!node.hasSubnet) return {};
  return {
    ...(node.capability >= heedingCapability && { [key]: "yes" }),
    ...(node.capability >= pacingCapability && { [pacingKey]: "yes" }),
  };
}

/** A VM with rules is placed where they are heeded, or nowhere. */
export const heedingTerm: LabelTerm = { op: "exists", key };
/** The same for one with a limit. */
export const pacingTerm: LabelTerm = { op: "exists", key: pacingKey };
