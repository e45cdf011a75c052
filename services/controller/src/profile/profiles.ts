// Users' SSH keys.
import type { SshKey } from "@pitwall/proto/pitwall/v1/profile.ts";
import { PitwallError } from "@pitwall/runtime";
import { writeAudit } from "../mutation/audit.ts";
import { originOf } from "../mutation/mutations.ts";
import type { Principal } from "../projects/principal.ts";
import { SshKeyEntity } from "../store/entities.ts";
import { databaseNowMs, isKeyTaken, type Store } from "../store/store.ts";
import { parseSshKey } from "../vm/ssh-keys.ts";

const maxKeys = 100;

export class Profiles {
  readonly #store: Store;

  constructor(store: Store) {
    this.#store = store;
  }

  /** Adding a key again returns it. Throws `exists` when another user has it. */
  async addKey(caller: Principal, text: string): Promise<SshKey> {
    const { line, fingerprint } = parseSshKey(text, "public_key");
    const owner = caller.subject;
    const origin = { ...originOf(caller), action: "ProfileService/AddSshKey", requestId: "" };
    const add = this.#store.change(async (em) => {
      const known = await em.findOne(SshKeyEntity, { fingerprint });
      if (known && known.owner !== owner) {
        throw new PitwallError("exists", "public_key: another user has this key; make a key of your own", {
          reason: "KEY_TAKEN",
          field: "public_key",
        });
      }
      if (known) return known;
      if ((await em.count(SshKeyEntity, { owner })) >= maxKeys)
        throw new PitwallError("exhausted", `you have ${maxKeys} keys: delete one first`, { reason: "TOO_MANY_KEYS" });
      const key = { fingerprint, owner, publicKey: line, createTime: new Date(await databaseNowMs(em)) };
      await em.insert(SshKeyEntity, key);
      await writeAudit(em, origin, { object: `key/${fingerprint}` });
      return key;
    });
    return add.catch((error: unknown) => {
      if (isKeyTaken(error)) return this.addKey(caller, text); // somebody added it at the same moment
      throw error;
    });
  }

  async listKeys(owner: string): Promise<SshKey[]> {
    return this.#store.read().find(SshKeyEntity, { owner }, { orderBy: { createTime: "asc", fingerprint: "asc" } });
  }

  /** Throws `not-found`. */
  async deleteKey(caller: Principal, fingerprint: string): Promise<void> {
    const origin = { ...originOf(caller), action: "ProfileService/DeleteSshKey", requestId: "" };
    const deleted = await this.#store.change(async (em) => {
      const count = await em.nativeDelete(SshKeyEntity, { owner: caller.subject, fingerprint });
      if (count > 0) await writeAudit(em, origin, { object: `key/${fingerprint}` });
      return count;
    });
    if (deleted === 0)
      throw new PitwallError("not-found", "you have no such key; `pitwall keys ls` shows them", {
        reason: "KEY_NOT_FOUND",
        field: "fingerprint",
      });
  }
}
