// Join tokens: made for whoever asks, and kept as digests.
//
// A request that is repeated gets the first answer, and so the same token. Until its answer is forgotten, the join string is therefore in the
// database as well, sealed with the key that is in a file: whoever reads the database alone has nothing to join by.
import { createHash, randomBytes } from "node:crypto";
import { checkLabels, formatJoin, type Labels } from "@pitwall/enroll";
import { CreateJoinTokenResponse, JoinRole, NodeServiceDefinition, type CreateJoinTokenRequest } from "@pitwall/proto/pitwall/v1/node.ts";
import { invalid } from "@pitwall/runtime";
import type { Ca, Role } from "../ca/ca.ts";
import type { SecretBox } from "../credentials/secret-box.ts";
import type { AuditRecord } from "../mutation/audit.ts";
import { originOf, type Method, type Mutations } from "../mutation/mutations.ts";
import type { Roster } from "../nodes/roster.ts";
import type { Principal } from "../projects/principal.ts";
import { JoinTokenEntity } from "../store/entities.ts";
import { databaseNowMs, type EntityManager } from "../store/store.ts";
import { checkName } from "../vm/names.ts";

const lifeMs = 15 * 60_000;
const maxUses = 100_000;
const service = NodeServiceDefinition;
const roles: Readonly<Record<number, Role | undefined>> = { [JoinRole.JOIN_ROLE_NODE]: "node", [JoinRole.JOIN_ROLE_GATEWAY]: "gateway" };

/** What a join token is for. */
interface Wish {
  readonly role: Role;
  /** The one that a host must take; empty: any. */
  readonly name: string;
  /** How many hosts it lets in. */
  readonly uses: number;
  /** Of nodes, whatever they say of themselves; null: they say theirs. */
  readonly labels: Labels | null;
}

export interface JoinTokensParts {
  readonly mutations: Mutations;
  readonly box: Pick<SecretBox, "seal" | "open">;
  readonly ca: Pick<Ca, "fingerprint">;
  readonly roster: Pick<Roster, "own" | "present">;
}

export class JoinTokens {
  readonly #parts: JoinTokensParts;

  constructor(parts: JoinTokensParts) {
    this.#parts = parts;
  }

  async create(caller: Principal, request: CreateJoinTokenRequest): Promise<CreateJoinTokenResponse> {
    const wish = wishOf(request);
    const controllers = await this.#parts.roster.present();
    return this.#parts.mutations.run({
      service,
      method: this.#sealing(`join-token ${originOf(caller).actor} ${request.requestId}`),
      caller,
      request,
      work: async ({ em, audit }) => this.#make(em, wish, controllers, audit),
    });
  }

  /** A join string for one host of any name, that the controller itself hands out. */
  async own(role: Role): Promise<string> {
    const wish = { role, name: "", uses: 1, labels: null };
    const controllers = await this.#parts.roster.present();
    const { join } = await this.#parts.mutations.system("CreateJoinToken", ({ em, audit }) => this.#make(em, wish, controllers, audit));
    return join;
  }

  async #make(
    em: EntityManager,
    wish: Wish,
    controllers: Awaited<ReturnType<Roster["present"]>>,
    audit: (record: AuditRecord) => Promise<void>,
  ): Promise<CreateJoinTokenResponse> {
    const { role, name, uses, labels } = wish;
    const token = randomBytes(32).toString("base64url");
    // By the clock that all controllers have in common: another one may be asked to let in by the token.
    const nowMs = await databaseNowMs(em);
    const expireTime = new Date(nowMs + lifeMs);
    await em.nativeDelete(JoinTokenEntity, { expireTime: { $lt: new Date(nowMs) } });
    await em.insert(JoinTokenEntity, { digest: digestOf(token), role, name, expireTime, usedTime: null, usesLeft: uses, labels });
    await audit({ object: "join-token", detail: { role, name, uses, ...(labels && { labels }) } });
    const { ca, roster } = this.#parts;
    const [own = roster.own, ...others] = controllers;
    return { join: formatJoin({ token, ca: ca.fingerprint, ...own, others }), expireTime };
  }

  /** What is remembered of an answer has its join string sealed, and opens for the same request of the same caller only. */
  #sealing(about: string): Method<CreateJoinTokenRequest, CreateJoinTokenResponse> {
    const { box } = this.#parts;
    return {
      ...service.methods.createJoinToken,
      responseType: {
        encode: (answer) => {
          const sealed = box.seal(answer.join, about);
          return CreateJoinTokenResponse.encode({ ...answer, join: `${sealed.keyId} ${Buffer.from(sealed.box).toString("base64")}` });
        },
        decode: (bytes) => {
          const answer = CreateJoinTokenResponse.decode(bytes);
          const [keyId = "", sealed = ""] = answer.join.split(" ");
          return { ...answer, join: box.open({ keyId, box: Buffer.from(sealed, "base64") }, about) };
        },
      },
    };
  }
}

/** Throws `invalid` naming the field. */
function wishOf({ role: wireRole, name, uses: asked, labels }: CreateJoinTokenRequest): Wish {
  const role = roles[wireRole];
  const uses = asked || 1;
  if (!role) throw invalid("role", "must be JOIN_ROLE_NODE or JOIN_ROLE_GATEWAY");
  if (name !== "") checkName(name);
  if (uses > maxUses) throw invalid("uses", `is ${uses}; a token lets in at most ${maxUses} hosts`);
  if (name !== "" && uses > 1) throw invalid("uses", `is ${uses}, and only one host can be called ${name}`);
  checkLabels("labels", labels);
  const bound = Object.keys(labels).length > 0 ? labels : null;
  if (bound && role !== "node") throw invalid("labels", "are of nodes: a gateway has none");
  return { role, name, uses, labels: bound };
}

/** By which a token is known. */
export const digestOf = (token: string): string => createHash("sha256").update(token).digest("hex");
