// Projects, members and roles as the API spells them.
import { ProjectRole as WireRole, type Project, type ProjectMember, type Quota } from "@pitwall/proto/pitwall/v1/project.ts";
import { toDuration } from "@pitwall/runtime";
import type { ProjectMemberRow, ProjectRow } from "../store/entities.ts";
import { projectRoles, type ProjectRole } from "./principal.ts";

const wireRoles: Readonly<Record<ProjectRole, WireRole>> = {
  viewer: WireRole.PROJECT_ROLE_VIEWER,
  member: WireRole.PROJECT_ROLE_MEMBER,
  owner: WireRole.PROJECT_ROLE_OWNER,
};

export function toWireRole(role: string | undefined): WireRole {
  const known = projectRoles.find((one) => one === role);
  return known ? wireRoles[known] : WireRole.PROJECT_ROLE_UNSPECIFIED;
}

/** Undefined for none of the three. */
export function fromWireRole(role: WireRole): ProjectRole | undefined {
  return projectRoles.find((known) => wireRoles[known] === role);
}

export function quotaOf({ quotaVms, quotaCpuMillis, quotaMemBytes, quotaDiskBytes, quotaAddresses }: ProjectRow): Quota {
  return {
    vms: quotaVms,
    cpuMillis: quotaCpuMillis,
    memBytes: quotaMemBytes,
    diskBytes: quotaDiskBytes,
    addresses: quotaAddresses,
  };
}

/** `role` is a membership's; undefined for an administrator without one. */
export function toProject(row: ProjectRow, role: ProjectRole | undefined, usage: Quota): Project {
  return {
    id: row.id,
    name: row.name,
    personalOf: row.personalOf ?? "",
    role: toWireRole(role),
    quota: quotaOf(row),
    usage,
    undeleteWindow: toDuration(Number(row.undeleteWindowMs)),
    createTime: row.createTime,
    etag: String(row.version),
    recordSessions: row.recordSessions,
    sshLogins: { member: [...row.memberLogins], owner: [...row.ownerLogins] },
  };
}

export function toMember({ subject, role, createTime }: ProjectMemberRow): ProjectMember {
  return { subject, role: toWireRole(role), createTime };
}
