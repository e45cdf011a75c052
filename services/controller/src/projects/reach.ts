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

/** The project of this name or id, or the personal one for an empty reference. Throws `not-found`, and `denied` below `least`. */
export async function reachProject(em: EntityManager, principal: Principal, reference: string, least: ProjectRole): Promise<Reached> {
  const project = await em.findOne(ProjectEntity, whichProject(principal, reference));
  const role = project && (await roleIn(em, principal, project.id));
  if (!project || !role) throw projectNotFound(reference);
  return { project, role: allowed(role, least, `the project ${project.name}`) };
}

function whichProject({ subject, token }: Principal, reference: string): { id: string } | { name: string } | { personalOf: string } {
  if (reference !== "") return uuid.test(reference) ? { id: reference } : { name: reference };
  return token ? { id: token.projectId } : { personalOf: subject };
}

/** Undefined: none. */
async function roleIn(em: EntityManager, principal: Principal, projectId: string): Promise<ProjectRole | undefined> {
  const { subject, token, isAdmin } = principal;
  if (token && token.projectId !== projectId) return undefined;
  const member = await em.findOne(ProjectMemberEntity, { projectId, subject });
  const role = projectRoles.find((known) => known === member?.role) ?? (isAdmin ? "viewer" : undefined);
  return token && role ? lesser(token.role, role) : role;
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
  const row = await em.findOne(VmEntity, await whichVm(em, principal, reference));
  const role = row && (await roleIn(em, principal, row.projectId));
  if (!row || !role) throw vmNotFound(reference);
  allowed(role, least, `the VM ${row.name}`);
  return row;
}

type VmKey = { id: string } | { projectId: string; name: string; deleteTime: null };

async function whichVm(em: EntityManager, principal: Principal, reference: string): Promise<VmKey> {
  if (uuid.test(reference)) return { id: reference };
  const slash = reference.indexOf("/");
  const name = reference.slice(slash + 1);
  const project = await em.findOne(ProjectEntity, whichProject(principal, slash === -1 ? "" : reference.slice(0, slash)));
  if (!project || (slash === 0 && name !== "")) throw vmNotFound(reference);
  return { projectId: project.id, name, deleteTime: null };
}

function allowed(role: ProjectRole, least: ProjectRole, what: string): ProjectRole {
  if (isAtLeast(role, least)) return role;
  throw new PitwallError("denied", `your role for ${what} is ${role}; this needs ${least}`, { reason: "ROLE_TOO_LOW" });
}

function projectNotFound(reference: string): PitwallError {
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
