// Projects: made, and found for who has a role in them.
import { createHash, randomUUID } from "node:crypto";
import { ProjectEntity, ProjectMemberEntity } from "../store/entities.ts";
import { isKeyTaken, type EntityManager, type Store } from "../store/store.ts";
import { isName } from "../vm/names.ts";
import type { Principal } from "./principal.ts";

const gib = 1024n ** 3n;
/** What a new project may take until an administrator says otherwise. */
const firstQuota = {
  quotaVms: 100,
  quotaCpuMillis: 64_000n,
  quotaMemBytes: 256n * gib,
  quotaDiskBytes: 4096n * gib,
  quotaAddresses: 100,
};
const rememberedSubjects = 100_000;

export class Projects {
  readonly #store: Store;
  /** Whose personal project is known to be there. */
  readonly #welcomed = new Set<string>();

  constructor(store: Store) {
    this.#store = store;
  }

  /** Makes the user's personal project, if this is the first that is heard of them. */
  async welcome({ subject, username }: Pick<Principal, "subject" | "username">): Promise<void> {
    if (this.#welcomed.has(subject)) return;
    if ((await this.#store.read().count(ProjectEntity, { personalOf: subject })) === 0) {
      const suffix = createHash("sha256").update(subject).digest("hex").slice(0, 12);
      const wish = [username, subject].find(isName);
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
    await this.#store.change((em) => insertProject(em, name, subject, subject));
  }
}

/** Its owner is its first member. */
async function insertProject(em: EntityManager, name: string, owner: string, personalOf: string | null): Promise<string> {
  const id = randomUUID();
  const createTime = new Date();
  await em.insert(ProjectEntity, { id, name, personalOf, ...firstQuota, undeleteWindowMs: 0n, createTime, version: 1n });
  await em.insert(ProjectMemberEntity, { projectId: id, subject: owner, role: "owner", createTime });
  return id;
}
