// Which nodes heed rules for what a VM sends, in the words of placement. Pure.
import type { Labels, LabelTerm } from "./wanted.ts";

/** Of agents that heed them, where they have a subnet: docs/link.md. */
export const heedingCapability = 7;

/** No label that anybody can give: it is what a node is, as its agent says it. */
const key = "network with rules of VMs";

/** What placement sees beside a node's own labels. */
export function heedingLabel(node: { readonly capability: number; readonly hasSubnet: boolean }): Labels {
  return node.hasSubnet && node.capability >= heedingCapability ? { [key]: "yes" } : {};
}

/** A VM with rules is placed where they are heeded, or nowhere. */
export const heedingTerm: LabelTerm = { op: "exists", key };
