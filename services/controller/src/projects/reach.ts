// What a principal can reach: projects by name, VMs by reference. What they have no role in is missing, in the same words as what is not.
import { PitwallError } from "@pitwall/runtime";
import { ProjectEntity, ProjectMemberEntity, VmEntity, type ProjectRow, type VmRow } from "../store/entities.ts";
import type { EntityManager } from "../store/store.ts";
import { isAtLeast, lesser, projectRoles, type Principal, type ProjectRole } from "./principal.ts";

const uuid = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

export interface Reached {
  readonly project: ProjectRow;
  readonly role: ProjectRole;
}

/**
 * The project of this name or id, or the personal one for an empty reference. Throws `not-found`, and `denied` below `least`. What is not
 * there and what the principal has no role in are one question to the database with one answer: nothing.
 */
export async function reachProject(em: EntityManager, principal: Principal, reference: string, least: ProjectRole): Promise<Reached> {
  const which = whichProject(principal, reference);
  const found = await visible(em, principal, `select project.id, role from project ${withRole} where ${which.sql}`, [which.value]);
  const project = found && (await em.findOne(ProjectEntity, { id: found.id }));
  if (!project) throw projectNotFound(reference);
  return { project, role: allowed(found.role, least, `the project ${project.name}`) };
}

interface Which {
  /** Of `project`, with one placeholder. */
  readonly sql: string;
  readonly value: string;
}

function whichProject({ subject, token }: Principal, reference: string): Which {
  if (reference !== "") return { sql: uuid.test(reference) ? "project.id = ?" : "project.name = ?", value: reference };
  return token ? { sql: "project.id = ?", value: token.projectId } : { sql: "project.personal_of = ?", value: subject };
}

const withRole = "left join project_member on project_member.project_id = project.id and project_member.subject = ?";

interface Visible {
  readonly id: string;
  readonly role: ProjectRole;
}

/** The row of a query that joins `project` {@link withRole}, unless it is not the principal's to see. */
async function visible(em: EntityManager, principal: Principal, sql: string, values: readonly string[]): Promise<Visible | undefined> {
  const { subject, token, isAdmin } = principal;
  const [row]: { id: string; role: string | null }[] = await em.execute(
    `${sql} and (project_member.role is not null or ?) and (?::uuid is null or project.id = ?)`,
    [subject, ...values, isAdmin, token?.projectId ?? null, token?.projectId ?? null],
  );
  if (!row) return undefined;
  const role = projectRoles.find((known) => known === row.role) ?? "viewer"; // an administrator's
  return { id: row.id, role: token ? lesser(token.role, role) : role };
}

/** Ids of all projects that they have a role in. */
export async function reachableProjects(em: EntityManager, { subject, token }: Principal): Promise<string[]> {
  const rows = await em.find(ProjectMemberEntity, { subject, ...(token && { projectId: token.projectId }) });
  return rows.map(({ projectId }) => projectId);
}

/**
 * The VM that an id, a name in the personal project, or `PROJECT/NAME` stands for. Throws `not-found`, and `denied` below `least`.
 * What was deleted and can be brought back is found by id only.
 */
export async function reachVm(em: EntityManager, principal: Principal, reference: string, least: ProjectRole): Promise<VmRow> {
  const which = whichVm(principal, reference);
  const sql = `select vm.id, role from vm join project on project.id = vm.project_id ${withRole} where ${which.sql}`;
  const found = await visible(em, principal, sql, which.values);
  const row = found && (await em.findOne(VmEntity, { id: found.id }));
  if (!row) throw vmNotFound(reference);
  allowed(found.role, least, `the VM ${row.name}`);
  return row;
}

function whichVm(principal: Principal, reference: string): { readonly sql: string; readonly values: readonly string[] } {
  if (uuid.test(reference)) return { sql: "vm.id = ?", values: [reference] };
  const slash = reference.indexOf("/");
  if (slash === 0) return { sql: "false and vm.name = ?", values: [reference] };
  const project = whichProject(principal, slash === -1 ? "" : reference.slice(0, slash));
  const named = "vm.name = ? and vm.delete_time is null";
  return { sql: `${project.sql} and ${named}`, values: [project.value, reference.slice(slash + 1)] };
}

function allowed(role: ProjectRole, least: ProjectRole, what: string): ProjectRole {
  if (isAtLeast(role, least)) return role;
  throw new PitwallError("denied", `your role for ${what} is ${role}; this needs ${least}`, { reason: "ROLE_TOO_LOW" });
}

export function projectNotFound(reference: string): PitwallError {
  return new PitwallError("not-found", `there is no project ${JSON.stringify(reference.slice(0, 80))}`, {
    reason: "PROJECT_NOT_FOUND",
    field: "project",
  });
}

/** The same words whether the VM does not exist or is not the caller's. */
export function vmNotFound(reference: string): PitwallError {
  return new PitwallError("not-found", `there is no VM ${JSON.stringify(reference.slice(0, 160))}`, {
    reason: "VM_NOT_FOUND",
    field: "vm",
  });
}
