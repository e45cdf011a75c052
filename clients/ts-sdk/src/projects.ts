// Projects: their members, quotas, API tokens and registry credentials.
import type { Client } from "nice-grpc-web";
import { present, type CallExtras } from "./calls.ts";
import {
  Project,
  Quota,
  type ApiToken,
  type CreateApiTokenResponse,
  type ProjectMember,
  type ProjectRole,
  type ProjectServiceDefinition,
  type RegistryCredential,
} from "./gen/pitwall/v1/project.ts";

const pageSize = 500;
const repeatable = { retry: true };

export interface CreateApiTokenOptions {
  /** Name or id; default: the personal project. */
  project?: string;
  /** What it is for. */
  description?: string;
  /** At most the caller's own; default viewer. */
  role?: ProjectRole;
  /** `Service/Method` names; default: all that the role may. */
  methods?: readonly string[];
  /** Default 30 days; at most a year. */
  ttlMs?: number;
}

/** What to change of a project; what is absent stays. Quotas are for administrators. */
export interface ProjectChanges {
  name?: string;
  undeleteWindowMs?: number;
  /** SSH sessions are recorded, and what cannot be is refused. */
  recordSessions?: boolean;
  /** As whom members and owners may act inside VMs: names, or `*` alone. */
  sshLogins?: { member?: readonly string[]; owner?: readonly string[] };
  quota?: Partial<Quota>;
  /** Refuses when the project has changed since. */
  etag?: string;
}

/** How a registry is signed in to. */
export type RegistrySecret = { username: string; password: string } | { identityToken: string };

/** All calls throw `PitwallRpcError`. `project` is a name or an id; empty: the caller's personal project. */
export class Projects {
  readonly #raw: Client<typeof ProjectServiceDefinition, CallExtras>;

  constructor(raw: Client<typeof ProjectServiceDefinition, CallExtras>) {
    this.#raw = raw;
  }

  async create(name: string): Promise<Project> {
    return present((await this.#raw.createProject({ requestId: crypto.randomUUID(), name }, repeatable)).project);
  }

  async get(project = ""): Promise<Project> {
    return present((await this.#raw.getProject({ project }, repeatable)).project);
  }

  /** Those that the caller has a role in, by name; with `all`, for administrators, every one. */
  async list({ all = false }: { all?: boolean } = {}): Promise<Project[]> {
    return pages(async (pageToken) => {
      const { projects, nextPageToken } = await this.#raw.listProjects({ pageSize, pageToken, all }, repeatable);
      return { items: projects, nextPageToken };
    });
  }

  async update(
    project: string,
    { name, undeleteWindowMs, recordSessions, sshLogins: { member, owner } = {}, quota = {}, etag = "" }: ProjectChanges,
  ): Promise<Project> {
    const fields = { vms: "vms", cpuMillis: "cpu_millis", memBytes: "mem_bytes", diskBytes: "disk_bytes", addresses: "addresses" } as const;
    const updateMask = [
      ...(name === undefined ? [] : ["name"]),
      ...(undeleteWindowMs === undefined ? [] : ["undelete_window"]),
      ...(recordSessions === undefined ? [] : ["record_sessions"]),
      ...(member === undefined ? [] : ["ssh_logins.member"]),
      ...(owner === undefined ? [] : ["ssh_logins.owner"]),
      ...Object.entries(fields).flatMap(([field, path]) => (quota[field as keyof typeof fields] === undefined ? [] : [`quota.${path}`])),
    ];
    const value = Project.fromPartial({
      name: name ?? "",
      quota: Quota.fromPartial(quota),
      sshLogins: { member: [...(member ?? [])], owner: [...(owner ?? [])] },
      ...(recordSessions !== undefined && { recordSessions }),
      ...(undeleteWindowMs !== undefined && { undeleteWindow: toDuration(undeleteWindowMs) }),
    });
    const request = { requestId: crypto.randomUUID(), project, value, updateMask, etag };
    return present((await this.#raw.updateProject(request, repeatable)).project);
  }

  /** Refused while it has VMs. */
  async delete(project: string, { etag = "" }: { etag?: string } = {}): Promise<void> {
    await this.#raw.deleteProject({ requestId: crypto.randomUUID(), project, etag }, repeatable);
  }

  /** By subject. */
  async members(project = ""): Promise<ProjectMember[]> {
    return pages(async (pageToken) => {
      const { members, nextPageToken } = await this.#raw.listProjectMembers({ project, pageSize, pageToken }, repeatable);
      return { items: members, nextPageToken };
    });
  }

  /** Adds a member, or changes their role. */
  async setMember(project: string, subject: string, role: ProjectRole): Promise<ProjectMember> {
    return present((await this.#raw.setProjectMember({ requestId: crypto.randomUUID(), project, subject, role }, repeatable)).member);
  }

  async removeMember(project: string, subject: string): Promise<void> {
    await this.#raw.removeProjectMember({ requestId: crypto.randomUUID(), project, subject }, repeatable);
  }

  /** `secret` is the token itself, and cannot be had again. */
  async createToken({
    project = "",
    description = "",
    role,
    methods = [],
    ttlMs,
  }: CreateApiTokenOptions = {}): Promise<CreateApiTokenResponse> {
    return this.#raw.createApiToken({
      project,
      description,
      methods: [...methods],
      ...(role !== undefined && { role }),
      ...(ttlMs !== undefined && { ttl: toDuration(ttlMs) }),
    });
  }

  /** By id. */
  async tokens(project = ""): Promise<ApiToken[]> {
    return pages(async (pageToken) => {
      const { tokens, nextPageToken } = await this.#raw.listApiTokens({ project, pageSize, pageToken }, repeatable);
      return { items: tokens, nextPageToken };
    });
  }

  /** Calls that it has open end within seconds. */
  async revokeToken(project: string, id: string): Promise<void> {
    await this.#raw.revokeApiToken({ requestId: crypto.randomUUID(), project, id }, repeatable);
  }

  /** `registry` is `host[:port]`, `docker.io` for Docker Hub. */
  async setRegistryCredential(project: string, registry: string, secret: RegistrySecret): Promise<RegistryCredential> {
    const given =
      "password" in secret
        ? { username: secret.username, secret: { $case: "password" as const, value: secret.password } }
        : { username: "", secret: { $case: "identityToken" as const, value: secret.identityToken } };
    const request = { requestId: crypto.randomUUID(), project, registry, ...given };
    return present((await this.#raw.setRegistryCredential(request, repeatable)).credential);
  }

  /** Without their secrets, which nobody sees again. */
  async registryCredentials(project = ""): Promise<RegistryCredential[]> {
    return (await this.#raw.listRegistryCredentials({ project }, repeatable)).credentials;
  }

  async deleteRegistryCredential(project: string, registry: string): Promise<void> {
    await this.#raw.deleteRegistryCredential({ requestId: crypto.randomUUID(), project, registry }, repeatable);
  }
}

async function pages<T>(read: (pageToken: string) => Promise<{ items: T[]; nextPageToken: string }>): Promise<T[]> {
  const all: T[] = [];
  for (let pageToken = ""; ;) {
    const { items, nextPageToken } = await read(pageToken);
    all.push(...items);
    if (nextPageToken === "") return all;
    pageToken = nextPageToken;
  }
}

function toDuration(ms: number): { seconds: bigint; nanos: number } {
  return { seconds: BigInt(Math.floor(ms / 1000)), nanos: Math.round((ms % 1000) * 1e6) };
}
