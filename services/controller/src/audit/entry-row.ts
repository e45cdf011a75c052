// Rows of the audit log as the values that are hashed.
import type { Entry } from "@pitwall/audit";

export interface EntryRow {
  readonly seq: string;
  readonly time_ms: string;
  readonly actor: string;
  readonly subject: string;
  readonly action: string;
  readonly project_id: string | null;
  readonly object: string;
  readonly detail: string;
  readonly request_id: string | null;
  readonly generation: string;
}

/** Of a table that is called `entry`. */
export const entryColumns = `entry.seq, (extract(epoch from date_trunc('milliseconds', entry.time)) * 1000)::bigint as time_ms, entry.actor, entry.subject,
  entry.action, entry.project_id, entry.object, entry.detail::text as detail, entry.request_id, entry.generation`;

export function toEntry(row: EntryRow, index: number): Entry {
  return {
    index,
    timeMs: Number(row.time_ms),
    actor: row.actor,
    subject: row.subject,
    action: row.action,
    projectId: row.project_id ?? "",
    object: row.object,
    detail: row.detail,
    requestId: row.request_id ?? "",
    generation: BigInt(row.generation),
  };
}
