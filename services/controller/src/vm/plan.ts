// Plans: what a change of a VM would do, for whoever asks with `validate_only`.
import type { Plan } from "@pitwall/proto/pitwall/v1/vm.ts";
import { planStale, type Choice } from "../mutation/plan-token.ts";
import { checkEtag, type Change } from "../mutation/mutations.ts";
import type { ProjectRole } from "../projects/principal.ts";
import type { QuotaChange } from "../quota/quota.ts";
import type { Placed } from "./placer.ts";
import type { VmRow } from "../store/entities.ts";

export interface PlanParts {
  /** Etag of the VM before the change; empty for a new one. */
  readonly etag: string;
  /** Where it is placed by this change; absent: nowhere. */
  readonly node?: Placed | undefined;
  /** Of a new VM. */
  readonly made?: Choice["made"];
  readonly role: ProjectRole;
  readonly project: string;
  readonly losses?: readonly string[];
  readonly quota: QuotaChange | undefined;
}

/** Undefined unless the change is one that only asks. */
export function planOf(change: Change, { etag, node, made, role, project, losses = [], quota }: PlanParts): Plan | undefined {
  if (!change.validateOnly) return undefined;
  return {
    token: change.planToken({ nodeId: node?.id ?? "", etag, made }),
    nodeId: node?.id ?? "",
    nodeName: node?.name ?? "",
    rejections: [...(node?.rejections ?? [])],
    quotaBefore: quota?.before,
    quotaAfter: quota?.after,
    quotaLimit: quota?.limit,
    policy: `your role in the project ${project} is ${role}`,
    losses: [...losses],
  };
}

/** Throws `race` when the VM is not as the request's etag, or its plan, says. */
export function checkUnchanged({ plan }: Change, etag: string, row: VmRow): void {
  const latest = String(row.revision);
  checkEtag(etag, latest, `the VM ${row.name}`);
  if (plan && plan.etag !== latest) throw planStale(`the VM ${row.name} has changed: its etag is ${latest}, not ${plan.etag}`);
}
