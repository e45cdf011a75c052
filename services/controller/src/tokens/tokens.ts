// API tokens: made, listed, revoked, proven, and looked at again while their calls last.
import { digestOfApiToken, hasDigest, makeApiToken, parseApiToken } from "@pitwall/auth";
import {
  CreateApiTokenResponse,
  ProjectServiceDefinition,
  type ApiToken,
  type CreateApiTokenRequest,
  type RevokeApiTokenRequest,
} from "@pitwall/proto/pitwall/v1/project.ts";
import { fromDuration, invalid, PitwallError } from "@pitwall/runtime";
import type { Mutations } from "../mutation/mutations.ts";
import { isAtLeast, projectRoles, type Principal } from "../projects/principal.ts";
import { lockProject } from "../projects/projects.ts";
import { reachProject } from "../projects/reach.ts";
import { fromWireRole, toWireRole } from "../projects/wire.ts";
import { ApiTokenEntity, type ApiTokenRow } from "../store/access-entities.ts";
import { ProjectMemberEntity } from "../store/entities.ts";
import { databaseNowMs, type Store } from "../store/store.ts";

const dayMs = 24 * 60 * 60_000;
const firstTtlMs = 30 * dayMs;
const maxTtlMs = 365 * dayMs;
const maxTokensOfProject = 200;
const maxDescription = 200;
const maxMethods = 100;

const service = ProjectServiceDefinition;
/** The secret is in the first answer alone: what is remembered of it has none. */
const createMethod = {
  ...service.methods.createApiToken,
  responseType: {
    encode: (answer: CreateApiTokenResponse) => CreateApiTokenResponse.encode({ ...answer, secret: "" }),
    decode: (bytes: Uint8Array) => CreateApiTokenResponse.decode(bytes),
  },
};

interface Found {
  readonly project_id: string;
  readonly role: string;
  readonly methods: string[];
  readonly digest: string;
  readonly created_by: string;
  readonly is_alive: boolean;
  readonly is_stale: boolean;
}

export class Tokens {
  readonly #store: Store;
  readonly #mutations: Mutations;

  constructor({ store, mutations }: { store: Store; mutations: Mutations }) {
    this.#store = store;
    this.#mutations = mutations;
  }

  /** The answer's secret is nowhere else: it cannot be shown again. */
  async create(caller: Principal, request: CreateApiTokenRequest): Promise<CreateApiTokenResponse> {
    const { description, methods } = request;
    const role = request.role === 0 ? "viewer" : fromWireRole(request.role);
    if (!role) throw invalid("role", "must be viewer, member or owner");
    // oxlint-disable-next-line no-control-regex -- control characters are what is looked for
    if (description.length > maxDescription || /[\u0000-\u001f\u007f]/.test(description))
      throw invalid("description", `must be at most ${maxDescription} characters, none of them a control character`);
    if (methods.length > maxMethods) throw invalid("methods", `must be at most ${maxMethods} names`);
    const ttlMs = request.ttl ? fromDuration(request.ttl) : 0;
    if (!(ttlMs >= 0 && ttlMs <= maxTtlMs)) throw invalid("ttl", "must be at most 365 days");
    return this.#mutations.run({
      service,
      method: createMethod,
      caller,
      request,
      work: async ({ em, audit }) => {
        const { row: project, role: own } = await lockProject(em, caller, request.project, "viewer");
        if (!isAtLeast(own, role)) {
          throw new PitwallError("denied", `role: your role for the project ${project.name} is ${own}; a token cannot have more`, {
            reason: "ROLE_TOO_LOW",
            field: "role",
          });
        }
        if ((await em.count(ProjectMemberEntity, { projectId: project.id, subject: caller.subject })) === 0)
          throw new PitwallError("denied", `you are no member of the project ${project.name}: a token needs one`, {
            reason: "NOT_A_MEMBER",
          });
        const count = await em.count(ApiTokenEntity, { projectId: project.id });
        if (count >= maxTokensOfProject)
          throw new PitwallError("exhausted", `the project ${project.name} has ${count} API tokens; revoke some`, {
            reason: "TOO_MANY_TOKENS",
          });
        const token = makeApiToken();
        const createTime = new Date(await databaseNowMs(em));
        const row: ApiTokenRow = {
          id: token.id,
          projectId: project.id,
          description,
          role,
          methods: [...new Set(methods)],
          digest: digestOfApiToken(token),
          createdBy: caller.subject,
          createTime,
          expireTime: new Date(createTime.getTime() + (ttlMs || firstTtlMs)),
          lastUsedTime: null,
        };
        await em.insert(ApiTokenEntity, row);
        const detail = { role, methods: row.methods, description, expireTime: row.expireTime.toISOString() };
        await audit({ object: `token/${token.id}`, projectId: project.id, detail });
        return { token: toWire(row, project.name), secret: token.text };
      },
    });
  }

  /** By id; `after` is the last one of the page before. */
  async list(caller: Principal, reference: string, limit: number, after: string): Promise<ApiToken[]> {
    const em = this.#store.read();
    const { project } = await reachProject(em, caller, reference, "viewer");
    const rows = await em.find(ApiTokenEntity, { projectId: project.id, id: { $gt: after } }, { orderBy: { id: "asc" }, limit });
    return rows.map((row) => toWire(row, project.name));
  }

  /** Owners revoke any, all others their own. Calls that are open end within seconds. */
  async revoke(caller: Principal, request: RevokeApiTokenRequest): Promise<void> {
    await this.#mutations.run({
      service,
      method: service.methods.revokeApiToken,
      caller,
      request,
      work: async ({ em, audit }) => {
        const { row: project, role } = await lockProject(em, caller, request.project, "viewer");
        const row = await em.findOne(ApiTokenEntity, { id: request.id, projectId: project.id });
        if (!row) throw tokenNotFound(project.name, request.id);
        if (row.createdBy !== caller.subject && !isAtLeast(role, "owner")) {
          throw new PitwallError(
            "denied",
            `the API token ${row.id} is not yours; revoking it is for owners of the project ${project.name}`,
            {
              reason: "ROLE_TOO_LOW",
            },
          );
        }
        await em.nativeDelete(ApiTokenEntity, { id: row.id });
        await audit({
          object: `token/${row.id}`,
          projectId: project.id,
          detail: { description: row.description, createdBy: row.createdBy },
        });
        return {};
      },
    });
  }

  /**
   * Of a header that holds an API token. One that never was, one that was revoked, one whose maker has left and one with another secret
   * are refused in the same words, after the same steps. Throws `unauthenticated`.
   */
  async authenticate(authorization: string): Promise<Principal> {
    const token = parseApiToken(authorization);
    if (!token) throw refused();
    const em = this.#store.read();
    const [found]: Found[] = await em.execute(
      `select project_id, role, methods, digest, created_by, expire_time > now() as is_alive,
         coalesce(last_used_time < now() - interval '1 minute', true) as is_stale
       from api_token where id = ?`,
      [token.id],
    );
    const role = projectRoles.find((known) => known === found?.role);
    if (!hasDigest(token, found?.digest ?? "") || !found || !role) throw refused();
    if (!found.is_alive) throw new PitwallError("unauthenticated", "the API token has expired: make another", { reason: "TOKEN_EXPIRED" });
    if (found.is_stale) await em.execute("update api_token set last_used_time = now() where id = ?", [token.id]);
    const scope = { id: token.id, projectId: found.project_id, role, methods: new Set(found.methods) };
    return { subject: found.created_by, username: "", isAdmin: false, token: scope };
  }

  /** Those of the ids that may still be used. */
  async valid(ids: readonly string[]): Promise<ReadonlySet<string>> {
    const list = JSON.stringify(ids);
    const rows: { id: string }[] = await this.#store
      .read()
      .execute("select id from api_token where id in (select jsonb_array_elements_text(?::jsonb)) and expire_time > now()", [list]);
    return new Set(rows.map(({ id }) => id));
  }
}

function refused(): PitwallError {
  return new PitwallError("unauthenticated", "the API token is not known here, was revoked, or its maker has left the project", {
    reason: "TOKEN_INVALID",
  });
}

function toWire(row: ApiTokenRow, project: string): ApiToken {
  const { id, description, methods, createdBy, createTime, expireTime, lastUsedTime } = row;
  return {
    id,
    project,
    description,
    role: toWireRole(row.role),
    methods,
    createdBy,
    createTime,
    expireTime,
    lastUsedTime: lastUsedTime ?? undefined,
  };
}

function tokenNotFound(project: string, id: string): PitwallError {
  return new PitwallError("not-found", `the project ${project} has no API token ${JSON.stringify(id.slice(0, 40))}`, {
    reason: "TOKEN_NOT_FOUND",
    field: "id",
  });
}
