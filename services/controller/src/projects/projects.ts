// Projects: made, found, changed, and deleted once they are empty.
import { createHash, randomUUID } from "node:crypto";
import {
  ProjectServiceDefinition,
  type CreateProjectRequest,
  type DeleteProjectRequest,
  type Project,
  type UpdateProjectRequest,
} from "@pitwall/proto/pitwall/v1/project.ts";
import { invalid, isUuid, PitwallError } from "@pitwall/runtime";
import { checkEtag, type Mutations } from "../mutation/mutations.ts";
import { usageOf } from "../quota/quota.ts";
import { ProjectEntity, ProjectMemberEntity, VmEntity, type ProjectRow } from "../store/entities.ts";
import { databaseNowMs, isKeyTaken, lockRow, type EntityManager, type Store } from "../store/store.ts";
import { isName } from "../vm/names.ts";
import { everybody } from "./logins.ts";
import type { Principal, ProjectRole } from "./principal.ts";
import { projectNotFound, reachProject, type Reached } from "./reach.ts";
import { applyMask } from "./update-mask.ts";
import { toProject } from "./wire.ts";

const gib = 1024n ** 3n;
/** What a new project may take until an administrator says otherwise. */
const firstQuota = {
  quotaVms: 100,
  quotaCpuMillis: 64_000n,
  quotaMemBytes: 256n * gib,
  quotaDiskBytes: 4096n * gib,
  quotaAddresses: 100,
};
/** Quotas are of projects: who could make any number of those would have none. Administrators may. */
const maxProjectsOfOwner = 20;
const rememberedSubjects = 100_000;
const service = ProjectServiceDefinition;

export class Projects {
  readonly #store: Store;
  readonly #mutations: Mutations;
  /** Whose personal project is known to be there. */
  readonly #welcomed = new Set<string>();

  constructor({ store, mutations }: { store: Store; mutations: Mutations }) {
    this.#store = store;
    this.#mutations = mutations;
  }

  /** Makes the user's personal project, if this is the first that is heard of them. */
  async welcome({ subject, username }: Pick<Principal, "subject" | "username">): Promise<void> {
    if (this.#welcomed.has(subject)) return;
    if ((await this.#store.read().count(ProjectEntity, { personalOf: subject })) === 0) {
      const suffix = createHash("sha256").update(subject).digest("hex").slice(0, 12);
      const wish = [username, subject].find(isProjectName);
      await this.#makePersonal(subject, wish ?? `u-${suffix}`).catch((error: unknown) => {
        if (!isKeyTaken(error)) throw error;
        // Somebody has the name, or the same user was welcomed elsewhere at this moment.
        return this.#makePersonal(subject, `u-${suffix}`).catch((again: unknown) => {
          if (!isKeyTaken(again)) throw again;
        });
      });
    }
    if (this.#welcomed.size >= rememberedSubjects) this.#welcomed.clear();
    this.#welcomed.add(subject);
  }

  async #makePersonal(subject: string, name: string): Promise<void> {
    await this.#mutations.system("CreatePersonalProject", async ({ em, audit }) => {
      const { id } = await insertProject(em, name, subject, subject);
      await audit({ object: `project/${id}`, projectId: id, detail: { name, personalOf: subject } });
    });
  }

  /** The caller becomes its owner. Throws `exists` for a name that is taken. */
  async create(caller: Principal, request: CreateProjectRequest): Promise<Project> {
    const { name } = request;
    if (!isProjectName(name)) throw badName("name");
    const { project } = await this.#mutations
      .run({
        service,
        method: service.methods.createProject,
        caller,
        request,
        work: async ({ em, audit }) => {
          const owned = await em.count(ProjectMemberEntity, { subject: caller.subject, role: "owner" });
          if (owned >= maxProjectsOfOwner && !caller.isAdmin) {
            throw new PitwallError("exhausted", `you own ${owned} projects; at most ${maxProjectsOfOwner} are allowed`, {
              reason: "TOO_MANY_PROJECTS",
            });
          }
          const row = await insertProject(em, name, caller.subject, null);
          await audit({ object: `project/${row.id}`, projectId: row.id, detail: { name } });
          return { project: await describe(em, row, "owner") };
        },
      })
      .catch((error: unknown) => {
        throw isKeyTaken(error) ? nameTaken(name) : error;
      });
    return present(project);
  }

  async get(caller: Principal, reference: string): Promise<Project> {
    const em = this.#store.read();
    const { project, role } = await reachProject(em, caller, reference, "viewer");
    return describe(em, project, (await isMember(em, caller, project.id)) ? role : undefined);
  }

  /** By name; `after` is the last name of the page before. With `all`, every project: throws `denied` unless an administrator asks. */
  async list(caller: Principal, { all, limit, after }: { all: boolean; limit: number; after: string }): Promise<Project[]> {
    if (all && !caller.isAdmin) throw new PitwallError("denied", "all: this is for administrators", { reason: "NOT_ADMIN", field: "all" });
    const em = this.#store.read();
    const mine = await em.find(ProjectMemberEntity, {
      subject: caller.subject,
      ...(caller.token && { projectId: caller.token.projectId }),
    });
    const roles = new Map(mine.map(({ projectId, role }) => [projectId, role]));
    const where = { name: { $gt: after }, ...(!all && { id: { $in: [...roles.keys()] } }) };
    const rows = await em.find(ProjectEntity, where, { orderBy: { name: "asc" }, limit });
    const usage = await usageOf(
      em,
      rows.map(({ id }) => id),
    );
    return rows.map((row) => toProject(row, caller.token?.role ?? (roles.get(row.id) as ProjectRole | undefined), usage(row.id)));
  }

  async update(caller: Principal, request: UpdateProjectRequest): Promise<Project> {
    const { project } = await this.#mutations
      .run({
        service,
        method: service.methods.updateProject,
        caller,
        request,
        work: async ({ em, audit }) => {
          const { row, role } = await lockProject(em, caller, request.project, "viewer");
          checkEtag(request.etag, String(row.version), `the project ${row.name}`);
          const detail = applyMask(row, request, { isOwner: role === "owner", isAdmin: caller.isAdmin });
          if (detail["name"] !== undefined && !isProjectName(row.name)) throw badName("value.name");
          row.version += 1n;
          await em.flush();
          await audit({ object: `project/${row.id}`, projectId: row.id, detail, generation: row.version });
          return { project: await describe(em, row, (await isMember(em, caller, row.id)) ? role : undefined) };
        },
      })
      .catch((error: unknown) => {
        throw isKeyTaken(error) ? nameTaken(request.value?.name ?? "") : error;
      });
    return present(project);
  }

  /** Throws `state` while it has VMs, those that can be brought back included, and for a personal project. */
  async delete(caller: Principal, request: DeleteProjectRequest): Promise<void> {
    await this.#mutations.run({
      service,
      method: service.methods.deleteProject,
      caller,
      request,
      work: async ({ em, audit }) => {
        const { row } = await lockProject(em, caller, request.project, "owner");
        checkEtag(request.etag, String(row.version), `the project ${row.name}`);
        if (row.personalOf !== null) {
          throw new PitwallError("state", `the project ${row.name} is personal: it stays with its user`, { reason: "PERSONAL_PROJECT" });
        }
        const vms = await em.count(VmEntity, { projectId: row.id });
        if (vms > 0) {
          const message = `the project ${row.name} has ${vms} VMs, those that can be brought back included; delete them first`;
          throw new PitwallError("state", message, { reason: "PROJECT_NOT_EMPTY" });
        }
        await em.nativeDelete(ProjectEntity, { id: row.id });
        await audit({ object: `project/${row.id}`, projectId: row.id, detail: { name: row.name } });
        return {};
      },
    });
  }
}

/** The project, its row locked: changes of one project, its members and tokens come one after the other. */
export async function lockProject(
  em: EntityManager,
  caller: Principal,
  reference: string,
  least: ProjectRole,
): Promise<{ row: ProjectRow; role: ProjectRole }> {
  const { project, role }: Reached = await reachProject(em, caller, reference, least);
  const row = await lockRow(em, ProjectEntity, { id: project.id });
  if (!row) throw projectNotFound(reference);
  return { row, role };
}

async function isMember(em: EntityManager, { subject }: Principal, projectId: string): Promise<boolean> {
  return (await em.count(ProjectMemberEntity, { projectId, subject })) > 0;
}

async function describe(em: EntityManager, row: ProjectRow, role: ProjectRole | undefined): Promise<Project> {
  return toProject(row, role, (await usageOf(em, [row.id]))(row.id));
}

/** Its owner is its first member. */
async function insertProject(em: EntityManager, name: string, owner: string, personalOf: string | null): Promise<ProjectRow> {
  const id = randomUUID();
  const createTime = new Date(await databaseNowMs(em));
  const logins = { memberLogins: everybody, ownerLogins: everybody };
  const row = { id, name, personalOf, ...firstQuota, undeleteWindowMs: 0n, recordSessions: false, ...logins, createTime, version: 1n };
  await em.insert(ProjectEntity, row);
  await em.insert(ProjectMemberEntity, { projectId: id, subject: owner, role: "owner", createTime });
  return row;
}

/** What looks like an id is found as one. */
function isProjectName(name: string): boolean {
  return isName(name) && !isUuid(name);
}

function badName(field: string): PitwallError {
  return invalid(field, "must be 1 to 63 of a-z, 0-9 and -, begin with a letter, end with no -, and not look like a UUID");
}

function nameTaken(name: string): PitwallError {
  return new PitwallError("exists", `name: another project is called ${name}; choose another name`, {
    reason: "NAME_TAKEN",
    field: "name",
  });
}

function present(project: Project | undefined): Project {
  if (!project) throw new PitwallError("internal", "a project's answer is incomplete");
  return project;
}
