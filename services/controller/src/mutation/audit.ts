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

/** An entry as {@link auditFrom} takes it. */
export interface AuditEntryRecord {
  readonly actor: string;
  readonly subject: string;
  readonly action: string;
  readonly project_id: string | null;
  readonly object: string;
  readonly detail: Readonly<Record<string, unknown>>;
  readonly request_id: string | null;
  readonly generation: string;
}

export function auditRecord(
  { actor, subject, action, requestId }: AuditOrigin,
  { object, projectId, detail, generation }: AuditRecord,
): AuditEntryRecord {
  return {
    ...{ actor, subject, action, object },
    project_id: projectId ?? null,
    detail: detail ?? {},
    request_id: requestId === "" ? null : requestId,
    generation: String(generation ?? 0n),
  };
}

/** SQL: writes an entry for each row of a set, from a JSON column of it, in the order of another. */
export function auditFrom(set: string, column: string, order: string): string {
  return `insert into audit_entry (actor, subject, action, project_id, object, detail, request_id, generation)
    select one.* from ${set}, jsonb_to_record(${set}.${column}) as one(
      actor text, subject text, action text, project_id uuid, object text, detail jsonb, request_id uuid, generation bigint)
    order by ${set}.${order}`;
}
