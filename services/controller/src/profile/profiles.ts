// Users' SSH keys.
import {
  ProfileServiceDefinition,
  type AddSshKeyRequest,
  type AddSshKeyResponse,
  type DeleteSshKeyRequest,
  type SshKey,
} from "@pitwall/proto/pitwall/v1/profile.ts";
import { PitwallError } from "@pitwall/runtime";
import type { Mutations } from "../mutation/mutations.ts";
import type { Principal } from "../projects/principal.ts";
import { SshKeyEntity } from "../store/entities.ts";
import { databaseNowMs, isKeyTaken, type Store } from "../store/store.ts";
import { parseSshKey } from "../vm/ssh-keys.ts";

const maxKeys = 100;

const service = ProfileServiceDefinition;

export class Profiles {
  readonly #store: Store;
  readonly #mutations: Mutations;

  constructor({ store, mutations }: { store: Store; mutations: Mutations }) {
    this.#store = store;
    this.#mutations = mutations;
  }

  /** Adding a key again returns it. Throws `exists` when another user has it. */
  async addKey(caller: Principal, request: AddSshKeyRequest): Promise<AddSshKeyResponse> {
    const { line, fingerprint } = parseSshKey(request.publicKey, "public_key");
    const owner = caller.subject;
    const add = this.#mutations.run({
      service,
      method: service.methods.addSshKey,
      caller,
      request,
      work: async ({ em, audit, unchanged }) => {
        const known = await em.findOne(SshKeyEntity, { fingerprint });
        if (known && known.owner !== owner) {
          throw new PitwallError("exists", "public_key: another user has this key; make a key of your own", {
            reason: "KEY_TAKEN",
            field: "public_key",
          });
        }
        if (known) {
          unchanged(); // `pitwall ssh` says it each time
          return { key: known };
        }
        if ((await em.count(SshKeyEntity, { owner })) >= maxKeys)
          throw new PitwallError("exhausted", `you have ${maxKeys} keys: delete one first`, { reason: "TOO_MANY_KEYS" });
        const key = { fingerprint, owner, publicKey: line, createTime: new Date(await databaseNowMs(em)) };
        await em.insert(SshKeyEntity, key);
        await audit({ object: `key/${fingerprint}` });
        return { key };
      },
    });
    return add.catch((error: unknown) => {
      if (isKeyTaken(error)) return this.addKey(caller, request); // somebody added it at the same moment
      throw error;
    });
  }

  async listKeys(owner: string): Promise<SshKey[]> {
    return this.#store.read().find(SshKeyEntity, { owner }, { orderBy: { createTime: "asc", fingerprint: "asc" } });
  }

  /** Throws `not-found`. */
  async deleteKey(caller: Principal, request: DeleteSshKeyRequest): Promise<void> {
    const { fingerprint } = request;
    await this.#mutations.run({
      service,
      method: service.methods.deleteSshKey,
      caller,
      request,
      work: async ({ em, audit }) => {
        if ((await em.nativeDelete(SshKeyEntity, { owner: caller.subject, fingerprint })) === 0)
          throw new PitwallError("not-found", "you have no such key; `pitwall keys ls` shows them", {
            reason: "KEY_NOT_FOUND",
            field: "fingerprint",
          });
        await audit({ object: `key/${fingerprint}` });
        return {};
      },
    });
  }
}
