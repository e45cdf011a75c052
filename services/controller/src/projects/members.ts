// Who is in a project, and in which role. There is always an owner.
import {
  ProjectServiceDefinition,
  type ProjectMember,
  type RemoveProjectMemberRequest,
  type SetProjectMemberRequest,
} from "@pitwall/proto/pitwall/v1/project.ts";
import { invalid, PitwallError } from "@pitwall/runtime";
import type { Mutations } from "../mutation/mutations.ts";
import { ProjectMemberEntity, type ProjectRow } from "../store/entities.ts";
import { databaseNowMs, type EntityManager, type Store } from "../store/store.ts";
import type { Principal } from "./principal.ts";
import { lockProject } from "./projects.ts";
import { reachProject } from "./reach.ts";
import { fromWireRole, toMember } from "./wire.ts";

const maxSubjectLength = 255;
const service = ProjectServiceDefinition;

/** What lets a subject see a project: a role in it. */
export function grantOf(projectId: string, subject: string): string {
  return JSON.stringify([projectId, subject]);
}

export class Members {
  readonly #store: Store;
  readonly #mutations: Mutations;

  constructor({ store, mutations }: { store: Store; mutations: Mutations }) {
    this.#store = store;
    this.#mutations = mutations;
  }

  /** By subject; `after` is the last one of the page before. */
  async list(caller: Principal, reference: string, limit: number, after: string): Promise<ProjectMember[]> {
    const em = this.#store.read();
    const { project } = await reachProject(em, caller, reference, "viewer");
    const where = { projectId: project.id, subject: { $gt: after } };
    return (await em.find(ProjectMemberEntity, where, { orderBy: { subject: "asc" }, limit })).map(toMember);
  }

  /** Those of the {@link grantOf}s whose subject still has a role in the project. */
  async valid(grants: readonly string[]): Promise<ReadonlySet<string>> {
    const rows: { grant: string }[] = await this.#store.read().execute(
      `select "grant" from jsonb_array_elements_text(?::jsonb) as "grant" join project_member
         on project_id = (("grant"::jsonb)->>0)::uuid and subject = ("grant"::jsonb)->>1`,
      [JSON.stringify(grants)],
    );
    return new Set(rows.map(({ grant }) => grant));
  }

  /** Adds a member, or changes their role. Throws `state` when no owner would be left. */
  async set(caller: Principal, request: SetProjectMemberRequest): Promise<ProjectMember> {
    const { subject } = request;
    const role = fromWireRole(request.role);
    if (!role) throw invalid("role", "must be viewer, member or owner");
    // oxlint-disable-next-line no-control-regex -- control characters are what is looked for
    if (subject === "" || subject.length > maxSubjectLength || /[\u0000-\u001f\u007f]/.test(subject))
      throw invalid(
        "subject",
        `must be 1 to ${maxSubjectLength} characters, none of them a control character: the user's subject at the issuer`,
      );
    const { member } = await this.#mutations.run({
      service,
      method: service.methods.setProjectMember,
      caller,
      request,
      work: async ({ em, audit }) => {
        const { row: project } = await lockProject(em, caller, request.project, "owner");
        const known = await em.findOne(ProjectMemberEntity, { projectId: project.id, subject });
        if (known?.role === "owner" && role !== "owner") await keepOwner(em, project, subject);
        const createTime = new Date(await databaseNowMs(em));
        const row = known ?? em.create(ProjectMemberEntity, { projectId: project.id, subject, role, createTime });
        const before = known?.role;
        row.role = role;
        await em.flush();
        await audit({
          object: `project/${project.id}`,
          projectId: project.id,
          detail: { member: subject, role, ...(before && { before }) },
        });
        return { member: toMember(row) };
      },
    });
    if (!member) throw new PitwallError("internal", "a member's answer is incomplete");
    return member;
  }

  /** Owners take out anybody, all others themselves. Their API tokens of the project go as well. */
  async remove(caller: Principal, request: RemoveProjectMemberRequest): Promise<void> {
    const { subject } = request;
    await this.#mutations.run({
      service,
      method: service.methods.removeProjectMember,
      caller,
      request,
      work: async ({ em, audit }) => {
        const { row: project } = await lockProject(em, caller, request.project, subject === caller.subject ? "viewer" : "owner");
        const known = await em.findOne(ProjectMemberEntity, { projectId: project.id, subject });
        if (!known) throw memberNotFound(project, subject);
        if (known.role === "owner") await keepOwner(em, project, subject);
        await em.nativeDelete(ProjectMemberEntity, { projectId: project.id, subject });
        await audit({
          object: `project/${project.id}`,
          projectId: project.id,
          detail: { member: subject, before: known.role, role: null },
        });
        return {};
      },
    });
  }
}

/** Throws `state` when this owner must stay one. The project is locked, so that two owners cannot both go. */
async function keepOwner(em: EntityManager, { id, name, personalOf }: ProjectRow, subject: string): Promise<void> {
  if (personalOf === subject)
    throw new PitwallError("state", `the project ${name} is the personal project of ${subject}, who stays its owner`, {
      reason: "PERSONAL_PROJECT",
    });
  const others = await em.count(ProjectMemberEntity, { projectId: id, role: "owner", subject: { $ne: subject } });
  if (others === 0)
    throw new PitwallError("state", `${subject} is the last owner of the project ${name}; make somebody else an owner first`, {
      reason: "LAST_OWNER",
    });
}

function memberNotFound({ name }: ProjectRow, subject: string): PitwallError {
  return new PitwallError("not-found", `the project ${name} has no member ${JSON.stringify(subject.slice(0, 80))}`, {
    reason: "MEMBER_NOT_FOUND",
    field: "subject",
  });
}
