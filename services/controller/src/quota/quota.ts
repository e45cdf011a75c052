// What a project takes, and what it may take. The database adds up and refuses (migration 0011): no way of changing a VM goes round it.
import type { Quota } from "@pitwall/proto/pitwall/v1/project.ts";
import { PitwallError } from "@pitwall/runtime";
import { ProjectEntity } from "../store/entities.ts";
import { violationOf, type EntityManager } from "../store/store.ts";
import { quotaOf } from "../projects/wire.ts";
import { z } from "zod";

const nothing: Quota = { vms: 0, cpuMillis: 0n, memBytes: 0n, diskBytes: 0n, addresses: 0 };

interface UsageRow {
  readonly project_id: string;
  readonly vms: number;
  readonly cpu_millis: string;
  readonly mem_bytes: string;
  readonly disk_bytes: string;
  readonly addresses: number;
}

/** By project. One that never had a VM takes nothing. */
export async function usageOf(em: EntityManager, projectIds: readonly string[]): Promise<(projectId: string) => Quota> {
  const rows: UsageRow[] = await em.execute(
    "select * from project_usage where project_id in (select id::uuid from jsonb_array_elements_text(?::jsonb) as id)",
    [JSON.stringify(projectIds)],
  );
  const byProject = new Map(
    rows.map(({ project_id, vms, cpu_millis, mem_bytes, disk_bytes, addresses }) => [
      project_id,
      { vms, cpuMillis: BigInt(cpu_millis), memBytes: BigInt(mem_bytes), diskBytes: BigInt(disk_bytes), addresses },
    ]),
  );
  return (projectId) => byProject.get(projectId) ?? nothing;
}

export interface QuotaChange {
  readonly before: Quota;
  readonly after: Quota;
  readonly limit: Quota;
}

/**
 * For a plan: called before a change is made, it gives what to call after it. That tells what the change did to the project's quota;
 * undefined for a change that is no plan.
 */
export async function observeQuota(
  { em, validateOnly }: { readonly em: EntityManager; readonly validateOnly: boolean },
  projectId: string,
): Promise<() => Promise<QuotaChange | undefined>> {
  if (!validateOnly) return async () => undefined;
  const before = (await usageOf(em, [projectId]))(projectId);
  return async () => {
    const project = await em.findOneOrFail(ProjectEntity, { id: projectId });
    return { before, after: (await usageOf(em, [projectId]))(projectId), limit: quotaOf(project) };
  };
}

const violations = z.object({
  project: z.string(),
  name: z.string(),
  over: z.array(z.object({ resource: z.string(), limit: z.number(), used: z.number(), wanted: z.number() })).min(1),
});

/** The refusal that the database's own refusal of a change stands for; undefined: it refused something else. */
export function quotaFault(error: unknown): PitwallError | undefined {
  const detail = violationOf(error, "project_quota");
  if (detail === undefined) return undefined;
  const { project, name, over } = violations.parse(JSON.parse(detail));
  const words = over.map(({ resource, limit, used, wanted }) => ({
    subject: `project/${project}/${resource}`,
    description: `${resource}: the limit is ${limit}, ${used} are taken, ${wanted} more are wanted`,
  }));
  const list = words.map(({ description }) => description).join("; ");
  return new PitwallError(
    "exhausted",
    `the quota of the project ${name} does not allow that: ${list}. Delete VMs, or ask an administrator`,
    {
      reason: "QUOTA_EXCEEDED",
      quota: words,
      cause: error,
    },
  );
}
