// What a principal can reach: projects by name, VMs by reference. What they have no role in is missing, in the same words as what is not.
import { isUuid, PitwallError } from "@pitwall/runtime";
import { ProjectEntity, ProjectMemberEntity, VmEntity, type ProjectRow, type VmRow } from "../store/entities.ts";
import type { EntityManager } from "../store/store.ts";
import { isAtLeast, lesser, projectRoles, type Principal, type ProjectRole } from "./principal.ts";

export interface Reached {
  readonly project: ProjectRow;
  readonly role: ProjectRole;
}

/**
 * The project of this name or id, or the personal one for an empty reference. Throws `not-found`, and `denied` below `least`. What is not
 * there and what the principal has no role in are one question to the database with one answer: nothing.
 */
export async function reachProject(em: EntityManager, principal: Principal, reference: string, least: ProjectRole): Promise<Reached> {
  const which = sqlOf(whichProject(principal, reference));
  const found = await visible(em, principal, `select project.id, role from project ${withRole} where ${which.sql}`, [which.value]);
  const project = found && (await em.findOne(ProjectEntity, { id: found.id }));
  if (!project) throw projectNotFound(reference);
  return { project, role: allowed(found.role, least, `the project ${project.name}`) };
}

/** By what a project is found, and its value. */
interface Which {
  readonly column: "id" | "name" | "personal_of";
  readonly value: string;
}

function whichProject({ subject, token }: Principal, reference: string): Which {
  if (reference !== "") return { column: isUuid(reference) ? "id" : "name", value: reference };
  return token ? { column: "id", value: token.projectId } : { column: "personal_of", value: subject };
}

/** Of `project`, with one placeholder. */
const sqlOf = ({ column, value }: Which): { readonly sql: string; readonly value: string } => ({ sql: `project.${column} = ?`, value });

/** What is asked about several projects in one question, as JSON that {@link soughtProjects} reads. */
export function seekProject(principal: Principal, reference: string): Record<string, unknown> {
  const { column, value } = whichProject(principal, reference);
  const { subject, token, isAdmin } = principal;
  return { [`project_${column}`]: value, member: subject, is_admin: isAdmin, only_project: token?.projectId ?? null };
}

/** SQL: the project and the principal's role in it, for each row of the set `given`, which has these columns beside others. */
export const soughtColumns =
  "project_id uuid, project_name text, project_personal_of text, member text, is_admin boolean, only_project uuid";
export const soughtProjects = `given
  left join project by_id on by_id.id = given.project_id left join project by_name on by_name.name = given.project_name
  left join project by_owner on by_owner.personal_of = given.project_personal_of
  left join lateral (
    select coalesce(by_id.id, by_name.id, by_owner.id) as id, coalesce(by_id.name, by_name.name, by_owner.name) as name) as project on true
  left join project_member on project_member.project_id = project.id and project_member.subject = given.member`;
/** SQL: whether it is the principal's to see; the same question whether it is there or not. */
export const isVisible =
  "project.id is not null and (project_member.role is not null or given.is_admin) and (given.only_project is null or project.id = given.only_project)";

/** The role that counts, of a project that is the principal's to see. Throws `denied` below `least`. */
export function roleIn({ token }: Principal, role: string | null, least: ProjectRole, what: string): ProjectRole {
  const own = projectRoles.find((known) => known === role) ?? "viewer"; // an administrator's
  return allowed(token ? lesser(token.role, own) : own, least, what);
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
  return (await reachVmInRole(em, principal, reference, least)).row;
}

/** The same, with the principal's role in its project. */
export async function reachVmInRole(
  em: EntityManager,
  principal: Principal,
  reference: string,
  least: ProjectRole,
): Promise<{ readonly row: VmRow; readonly role: ProjectRole }> {
  const which = whichVm(principal, reference);
  const sql = `select vm.id, role from vm join project on project.id = vm.project_id ${withRole} where ${which.sql}`;
  const found = await visible(em, principal, sql, which.values);
  const row = found && (await em.findOne(VmEntity, { id: found.id }));
  if (!row) throw vmNotFound(reference);
  return { row, role: allowed(found.role, least, `the VM ${row.name}`) };
}

/** The last word of a VM that is gone, encoded, while it is remembered; undefined: it is not, or was not the principal's to see. */
export async function reachGone(
  em: EntityManager,
  principal: Principal,
  vmId: string,
): Promise<{ readonly projectId: string; readonly body: Uint8Array } | undefined> {
  const sql = `select project.id, role from vm_event e join project on project.id = e.project_id ${withRole} where e.gone and e.vm_id = ?`;
  const found = await visible(em, principal, sql, [vmId]);
  if (!found) return undefined;
  const [event]: { body: Buffer }[] = await em.execute("select body from vm_event where gone and vm_id = ?", [vmId]);
  return event && { projectId: found.id, body: event.body };
}

function whichVm(principal: Principal, reference: string): { readonly sql: string; readonly values: readonly string[] } {
  if (isUuid(reference)) return { sql: "vm.id = ?", values: [reference] };
  const slash = reference.indexOf("/");
  if (slash === 0) return { sql: "false and vm.name = ?", values: [reference] };
  const project = whichProject(principal, slash === -1 ? "" : reference.slice(0, slash));
  const named = "vm.name = ? and vm.delete_time is null";
  return { sql: `${sqlOf(project).sql} and ${named}`, values: [project.value, reference.slice(slash + 1)] };
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
