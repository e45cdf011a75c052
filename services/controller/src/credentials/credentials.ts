// What projects sign in to registries with. Secrets are sealed in their rows, opened for a pull, and said to nobody.
import { credentialsOf, parseReference, parseRegistry, registryOfImage, type CredentialsFor } from "@pitwall/oci";
import type { ImageCredential } from "@pitwall/proto/pitwall/v1/link.ts";
import {
  ProjectServiceDefinition,
  SetRegistryCredentialRequest,
  type DeleteRegistryCredentialRequest,
  type RegistryCredential,
} from "@pitwall/proto/pitwall/v1/project.ts";
import { invalid, PitwallError, type Log } from "@pitwall/runtime";
import { z } from "zod";
import type { Mutations } from "../mutation/mutations.ts";
import type { Principal, ProjectRole } from "../projects/principal.ts";
import { lockProject } from "../projects/projects.ts";
import { reachProject } from "../projects/reach.ts";
import { RegistryCredentialEntity, type RegistryCredentialRow } from "../store/access-entities.ts";
import { databaseNowMs, type EntityManager, type Store } from "../store/store.ts";
import type { SecretBox } from "./secret-box.ts";

const maxSecretLength = 8192;
const maxPerProject = 50;
const rewrapBatch = 100;
const service = ProjectServiceDefinition;

const kept = z.discriminatedUnion("kind", [
  z.object({ kind: z.literal("password"), username: z.string(), password: z.string() }),
  z.object({ kind: z.literal("refresh-token"), token: z.string() }),
]);
type Kept = z.output<typeof kept>;

export interface OnBehalf {
  readonly projectId: string;
  readonly credentialsFor: CredentialsFor;
  /** What a node needs for an image reference. */
  readonly credentialOf: (image: string) => ImageCredential | undefined;
}

export class Credentials {
  readonly #store: Store;
  readonly #mutations: Mutations;
  readonly #box: SecretBox;

  constructor({ store, mutations, box }: { store: Store; mutations: Mutations; box: SecretBox }) {
    this.#store = store;
    this.#mutations = mutations;
    this.#box = box;
  }

  /** Adds the project's credential for a registry, or replaces it. */
  async set(caller: Principal, request: SetRegistryCredentialRequest): Promise<RegistryCredential> {
    const registry = parseRegistry(request.registry, "registry");
    const secret = secretOf(request);
    const { credential } = await this.#mutations.run({
      service,
      method: { ...service.methods.setRegistryCredential, requestType: this.#digestible },
      caller,
      request,
      work: async ({ em, audit }) => {
        const { row: project } = await lockProject(em, caller, request.project, "owner");
        const key = { projectId: project.id, registry };
        const sealed = this.#box.seal(JSON.stringify(secret), aboutOf(key));
        const username = secret.kind === "password" ? secret.username : "";
        const known = await em.findOne(RegistryCredentialEntity, key);
        const now = new Date(await databaseNowMs(em));
        if (!known && (await em.count(RegistryCredentialEntity, { projectId: project.id })) >= maxPerProject)
          throw new PitwallError("exhausted", `the project ${project.name} has ${maxPerProject} registry credentials; delete some`, {
            reason: "TOO_MANY_CREDENTIALS",
          });
        const row = known ?? em.create(RegistryCredentialEntity, { ...key, username, ...sealed, createTime: now, updateTime: now });
        Object.assign(row, { username, ...sealed, updateTime: now });
        await em.flush();
        await audit({
          object: `registry/${registry}`,
          projectId: project.id,
          detail: { username, kind: secret.kind, replaced: known !== null },
        });
        return { credential: toWire(row) };
      },
    });
    if (!credential) throw new PitwallError("internal", "a credential's answer is incomplete");
    return credential;
  }

  async list(caller: Principal, reference: string): Promise<RegistryCredential[]> {
    const em = this.#store.read();
    const { project } = await reachProject(em, caller, reference, "viewer");
    return (await em.find(RegistryCredentialEntity, { projectId: project.id }, { orderBy: { registry: "asc" } })).map(toWire);
  }

  async delete(caller: Principal, request: DeleteRegistryCredentialRequest): Promise<void> {
    const registry = parseRegistry(request.registry, "registry");
    await this.#mutations.run({
      service,
      method: service.methods.deleteRegistryCredential,
      caller,
      request,
      work: async ({ em, audit }) => {
        const { row: project } = await lockProject(em, caller, request.project, "owner");
        const gone = await em.nativeDelete(RegistryCredentialEntity, { projectId: project.id, registry });
        if (gone === 0)
          throw new PitwallError("not-found", `the project ${project.name} has no credential for ${registry}`, {
            reason: "CREDENTIAL_NOT_FOUND",
            field: "registry",
          });
        await audit({ object: `registry/${registry}`, projectId: project.id });
        return {};
      },
    });
  }

  /** For finding an image, and having nodes pull it, on behalf of a project that the caller has a role in. Throws as `reachProject` does. */
  async onBehalf(caller: Principal, reference: string, least: ProjectRole): Promise<OnBehalf> {
    const em = this.#store.read();
    const { project } = await reachProject(em, caller, reference, least);
    const credentialOf = await this.forNode(em, [project.id]);
    return {
      projectId: project.id,
      credentialsFor: await this.forProject(project.id),
      credentialOf: (image) => credentialOf(project.id, image),
    };
  }

  /** For finding an image on the project's behalf. */
  async forProject(projectId: string): Promise<CredentialsFor> {
    const rows = await this.#store.read().find(RegistryCredentialEntity, { projectId });
    return credentialsOf(rows.map((row) => [row.registry, this.#open(row)]));
  }

  /** For nodes that run VMs of these projects: by project and image reference. */
  async forNode(
    em: EntityManager,
    projectIds: readonly string[],
  ): Promise<(projectId: string, image: string) => ImageCredential | undefined> {
    if (projectIds.length === 0) return () => undefined;
    const some: unknown[] = await em.execute("select 1 from registry_credential where project_id = any(?::uuid[]) limit 1", [
      `{${projectIds.join(",")}}`,
    ]);
    if (some.length === 0) return () => undefined; // as it is with most: cheaper to know than entities are to make
    const rows = await em.find(RegistryCredentialEntity, { projectId: { $in: [...projectIds] } });
    const byKey = new Map(rows.map((row) => [aboutOf(row), row]));
    return (projectId, image) => {
      const registry = registryOfImage(parseReference(image, "image"));
      const row = registry === undefined ? undefined : byKey.get(aboutOf({ projectId, registry }));
      return row && toImageCredential(row.registry, this.#open(row));
    };
  }

  /** Seals anew, with the first key of the key file, what older ones of it sealed. */
  async rewrap(log: Log): Promise<void> {
    let count = 0;
    for (let done = rewrapBatch; done === rewrapBatch; count += done) done = await this.#rewrapSome();
    if (count > 0) log.info("registry credentials are sealed with the new key", { count, key: this.#box.keyId });
    const [row]: { lost: number }[] = await this.#store
      .read()
      .execute("select count(*)::int as lost from registry_credential where key_id <> ?", [this.#box.keyId]);
    if (row && row.lost > 0)
      log.error("registry credentials take a key that is not in the key file: they cannot be used", { count: row.lost });
  }

  async #rewrapSome(): Promise<number> {
    return this.#store.change(async (em) => {
      const old: { project_id: string; registry: string }[] = await em.execute(
        `select project_id, registry from registry_credential where key_id in (select jsonb_array_elements_text(?::jsonb))
         order by project_id, registry limit ? for update skip locked`,
        [JSON.stringify(this.#box.olderKeyIds), rewrapBatch],
      );
      for (const { project_id: projectId, registry } of old) {
        const row = await em.findOneOrFail(RegistryCredentialEntity, { projectId, registry });
        Object.assign(row, this.#box.seal(this.#box.open(row, aboutOf(row)), aboutOf(row)));
      }
      await em.flush();
      return old.length;
    });
  }

  #open(row: RegistryCredentialRow): Kept {
    return kept.parse(JSON.parse(this.#box.open(row, aboutOf(row))));
  }

  /** What is remembered of a request must not help to guess its secret. */
  readonly #digestible = {
    encode: (request: SetRegistryCredentialRequest) => {
      const { secret } = request;
      if (!secret) return SetRegistryCredentialRequest.encode(request);
      const value = this.#box.fingerprint(secret.value);
      return SetRegistryCredentialRequest.encode({ ...request, secret: { ...secret, value } });
    },
  };
}

/** A row that is moved to another project or registry does not open there. */
function aboutOf({ projectId, registry }: { projectId: string; registry: string }): string {
  return `registry-credential/${projectId}/${registry}`;
}

function secretOf({ username, secret }: SetRegistryCredentialRequest): Kept {
  const value = secret?.value ?? "";
  if (secret === undefined || value === "") throw invalid("secret", "a password or an identity token is required");
  const field = secret.$case === "password" ? "password" : "identity_token";
  // oxlint-disable-next-line no-control-regex -- control characters are what is looked for
  const isClean = (text: string): boolean => text.length <= maxSecretLength && !/[\u0000-\u001f\u007f]/.test(text);
  if (!isClean(value)) throw invalid(field, `must be at most ${maxSecretLength} characters, none of them a control character`);
  if (!isClean(username) || username.includes(":")) throw invalid("username", "must hold no colon and no control character");
  if (secret.$case === "identityToken") {
    if (username !== "") throw invalid("username", "must be empty with an identity token");
    return { kind: "refresh-token", token: value };
  }
  if (username === "") throw invalid("username", "is required with a password");
  return { kind: "password", username, password: value };
}

function toImageCredential(registry: string, secret: Kept): ImageCredential {
  return secret.kind === "password"
    ? { registry, username: secret.username, secret: { $case: "password", value: secret.password } }
    : { registry, username: "", secret: { $case: "identityToken", value: secret.token } };
}

function toWire({ registry, username, createTime, updateTime }: RegistryCredentialRow): RegistryCredential {
  return { registry, username, createTime, updateTime };
}
