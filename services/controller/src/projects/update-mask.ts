// What an update of a project changes: the fields that its mask names, no others.
import type { Quota, UpdateProjectRequest } from "@pitwall/proto/pitwall/v1/project.ts";
import { fromDuration, invalid, PitwallError } from "@pitwall/runtime";
import type { ProjectRow } from "../store/entities.ts";
import { checkLogins } from "./logins.ts";

const maxUndeleteWindowMs = 30 * 24 * 60 * 60_000;
/** What fits in the columns that add up. */
const maxCount = 1_000_000;
const maxAmount = 2n ** 60n;

type QuotaField = "vms" | "cpu_millis" | "mem_bytes" | "disk_bytes" | "addresses";
type Setter = (row: ProjectRow, quota: Quota) => bigint;

const quotaFields: Readonly<Record<QuotaField, Setter>> = {
  vms: (row, { vms }) => BigInt((row.quotaVms = vms)),
  cpu_millis: (row, { cpuMillis }) => (row.quotaCpuMillis = cpuMillis),
  mem_bytes: (row, { memBytes }) => (row.quotaMemBytes = memBytes),
  disk_bytes: (row, { diskBytes }) => (row.quotaDiskBytes = diskBytes),
  addresses: (row, { addresses }) => BigInt((row.quotaAddresses = addresses)),
};
const loginColumns = { "ssh_logins.member": "memberLogins", "ssh_logins.owner": "ownerLogins" } as const;
/** What stands for several fields. */
const groups: ReadonlyMap<string, readonly string[]> = new Map([
  ["ssh_logins", Object.keys(loginColumns)],
  ["quota", Object.keys(quotaFields).map((field) => `quota.${field}`)],
]);
const known = ["name", "undelete_window", "record_sessions", ...[...groups].flatMap(([group, fields]) => [group, ...fields])];
const counts: ReadonlySet<string> = new Set(["vms", "addresses"]);

export interface May {
  readonly isOwner: boolean;
  readonly isAdmin: boolean;
}

/** Writes into the row; what was changed, for the audit log. Throws `invalid` for a field that is none, `denied` for one that is not the caller's. */
export function applyMask(row: ProjectRow, { value, updateMask = [] }: UpdateProjectRequest, may: May): Record<string, unknown> {
  if (updateMask.length === 0) throw invalid("update_mask", "names nothing to change");
  if (!value) throw invalid("value", "is required");
  const changed: Record<string, unknown> = {};
  const paths = updateMask.flatMap((path) => groups.get(path) ?? [path]);
  for (const path of new Set(paths)) {
    if (path.startsWith("quota.")) {
      const field = path.slice("quota.".length);
      if (!isQuotaField(field)) throw unknownField(path);
      if (!may.isAdmin)
        throw new PitwallError("denied", "quotas are for administrators to set", { reason: "NOT_ADMIN", field: `value.${path}` });
      if (!value.quota) throw invalid("value.quota", "is required, as update_mask names it");
      const set = quotaFields[field](row, value.quota);
      const most = counts.has(field) ? BigInt(maxCount) : maxAmount;
      if (set > most) throw invalid(`value.${path}`, `must be at most ${most}`);
      changed[path] = String(set);
      continue;
    }
    if (!known.includes(path)) throw unknownField(path);
    if (!may.isOwner)
      throw new PitwallError("denied", `${path}: this is for owners of the project ${row.name}`, { reason: "ROLE_TOO_LOW", field: path });
    if (path === "name") changed["name"] = row.name = value.name;
    else if (path === "record_sessions") changed["recordSessions"] = row.recordSessions = value.recordSessions;
    else if (isLoginField(path)) {
      const { member = [], owner = [] } = value.sshLogins ?? {};
      const column = loginColumns[path];
      changed[column] = row[column] = checkLogins(column === "ownerLogins" ? owner : member, `value.${path}`);
    } else {
      const windowMs = fromDuration(value.undeleteWindow ?? { seconds: 0n, nanos: 0 });
      if (!(windowMs >= 0 && windowMs <= maxUndeleteWindowMs)) throw invalid("value.undelete_window", "must be 0 to 30 days");
      row.undeleteWindowMs = BigInt(Math.trunc(windowMs));
      changed["undeleteWindowMs"] = Math.trunc(windowMs);
    }
  }
  return changed;
}

function isQuotaField(field: string): field is QuotaField {
  return Object.hasOwn(quotaFields, field);
}

function isLoginField(path: string): path is keyof typeof loginColumns {
  return Object.hasOwn(loginColumns, path);
}

function unknownField(path: string): PitwallError {
  return invalid("update_mask", `${JSON.stringify(path.slice(0, 60))} cannot be changed; these can: ${known.join(", ")}`);
}
