// Entries of the audit log, written in the transaction of the change that they tell of.
import type { EntityManager } from "../store/store.ts";

/** What was changed, for the audit log. */
export interface AuditRecord {
  /** `vm/UUID`, `project/UUID`, … */
  readonly object: string;
  /** Absent: the fleet's. */
  readonly projectId?: string;
  /** Without secrets. */
  readonly detail?: Readonly<Record<string, unknown>>;
  /** That the change gave its object. */
  readonly generation?: bigint;
}

/** Who did it. */
export interface AuditOrigin {
  /** A user's subject, `token:ID`, `node:ID` or `system`. */
  readonly actor: string;
  /** On whose behalf. */
  readonly subject: string;
  /** `Service/Method`, or the word of what the system did by itself. */
  readonly action: string;
  readonly requestId: string;
}

export async function writeAudit(
  em: EntityManager,
  origin: AuditOrigin,
  { object, projectId, detail, generation }: AuditRecord,
): Promise<void> {
  const { actor, subject, action, requestId } = origin;
  await em.execute(
    `insert into audit_entry (actor, subject, action, project_id, object, detail, request_id, generation)
     values (?, ?, ?, ?, ?, ?::jsonb, ?, ?)`,
    [
      actor,
      subject,
      action,
      projectId ?? null,
      object,
      JSON.stringify(detail ?? {}),
      requestId === "" ? null : requestId,
      generation ?? 0n,
    ],
  );
}
