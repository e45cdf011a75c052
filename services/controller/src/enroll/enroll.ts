// How hosts become members: certificates for those who hold a join token.
import { randomUUID } from "node:crypto";
import { isIP } from "node:net";
import type { JoinRequest, JoinResponse, RenewRequest, RenewResponse } from "@pitwall/proto/pitwall/v1/enroll.ts";
import { invalid, PitwallError, type Log } from "@pitwall/runtime";
import type { Ca, Role } from "../ca/ca.ts";
import { writeAudit } from "../mutation/audit.ts";
import { JoinTokenEntity, MemberEntity, NodeEntity } from "../store/entities.ts";
import { databaseNowMs, lockRow, type EntityManager, type Store } from "../store/store.ts";
import { checkName } from "../vm/names.ts";
import { digestOf } from "./join-tokens.ts";

const hostName = /^(?=.{1,253}$)[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?(\.[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?)*$/;
const maxServerNames = 32;

/** A member as its certificate names it. */
export interface Member {
  readonly role: Role;
  readonly id: string;
}

export class Enroll {
  readonly #store: Store;
  readonly #ca: Ca;
  readonly #log: Log;

  constructor(store: Store, ca: Ca, log: Log) {
    this.#store = store;
    this.#ca = ca;
    this.#log = log;
  }

  async join(request: JoinRequest): Promise<JoinResponse> {
    const name = checkName(request.name);
    checkServerNames(request.serverNames);
    return this.#store.change(async (em) => {
      const nowMs = await databaseNowMs(em);
      const token = await lockRow(em, JoinTokenEntity, { digest: digestOf(request.token) });
      const refuse = (message: string, reason: string): PitwallError =>
        new PitwallError("unauthenticated", `${message}; make a new one with \`pitwall join-token\``, { reason });
      if (!token) throw refuse("this join token is not known", "JOIN_TOKEN_UNKNOWN");
      if (token.usesLeft === 0) throw refuse("this join token was used already", "JOIN_TOKEN_USED");
      if (token.expireTime.getTime() < nowMs) throw refuse("this join token has expired", "JOIN_TOKEN_EXPIRED");
      if (token.name !== "" && token.name !== name) throw invalid("name", `the join token lets in ${token.name} only`);
      const role = token.role === "gateway" ? "gateway" : "node";
      const id = await memberId(em, role, name, nowMs);
      const { certificate, expireTime } = await this.#ca.issueMember({ role, id, serverNames: request.serverNames }, request.csr);
      await upsertMember(em, { role, id }, name, expireTime);
      // The token that lets it in again may give it others, or none.
      if (role === "node")
        await em.nativeUpdate(NodeEntity, { id }, { boundLabels: token.labels, ...(token.labels && { labels: token.labels }) });
      // In one statement: another controller may be letting in another host by the same token.
      const used: unknown[] = await em.execute(
        "update join_token set uses_left = uses_left - 1, used_time = now() where digest = ? and uses_left > 0 returning uses_left",
        [token.digest],
      );
      if (used.length === 0) throw refuse("this join token was used already", "JOIN_TOKEN_USED");
      const actor = `${role}:${id}`;
      await writeAudit(
        em,
        { actor, subject: actor, action: "EnrollService/Join", requestId: "" },
        { object: `${role}/${id}`, detail: { name, ...(token.labels && { labels: token.labels }) } },
      );
      this.#log.info("a member joined", { role, id, name });
      return { id, certificate, ca: this.#ca.certificate };
    });
  }

  async renew({ role, id }: Member, request: RenewRequest): Promise<RenewResponse> {
    checkServerNames(request.serverNames);
    return this.#store.change(async (em) => {
      const { certificate, expireTime } = await this.#ca.issueMember({ role, id, serverNames: request.serverNames }, request.csr);
      const renewed = await em.nativeUpdate(MemberEntity, { id, role }, { certificateExpireTime: expireTime });
      if (renewed === 0) throw new PitwallError("denied", "this member was removed", { reason: "MEMBER_UNKNOWN" });
      const actor = `${role}:${id}`;
      const detail = { expireTime: expireTime.toISOString() };
      await writeAudit(em, { actor, subject: actor, action: "EnrollService/Renew", requestId: "" }, { object: `${role}/${id}`, detail });
      return { certificate, ca: this.#ca.certificate };
    });
  }
}

/** A name whose certificate has run out may be taken again, by the same host as far as anybody can tell: it keeps its id. */
async function memberId(em: EntityManager, role: Role, name: string, nowMs: number): Promise<string> {
  const known = await em.findOne(MemberEntity, { role, name });
  if (!known) return randomUUID();
  // With its id the certificates that it had before would be good again.
  const isRevoked = role === "node" && (await em.count(NodeEntity, { id: known.id, revokeTime: { $ne: null } })) > 0;
  if (isRevoked) {
    const message = `name: the node ${name} was revoked; remove it first: \`pitwall nodes rm ${name}\``;
    throw new PitwallError("exists", message, { reason: "NODE_REVOKED", field: "name" });
  }
  if (known.certificateExpireTime.getTime() < nowMs) return known.id;
  throw new PitwallError("exists", `name: there is a live ${role} called ${name}`, { reason: "NAME_TAKEN", field: "name" });
}

async function upsertMember(em: EntityManager, { role, id }: Member, name: string, certificateExpireTime: Date): Promise<void> {
  if ((await em.nativeUpdate(MemberEntity, { id }, { certificateExpireTime })) > 0) return;
  const createTime = new Date(await databaseNowMs(em));
  await em.insert(MemberEntity, { id, role, name, createTime, certificateExpireTime });
  if (role !== "node") return;
  const empty = {
    cpuMillis: 0n,
    memBytes: 0n,
    diskBytes: 0n,
    drivers: [],
    labels: {},
    boundLabels: null,
    revokeTime: null,
    agentVersion: "",
    cordoned: false,
    draining: false,
  };
  await em.insert(NodeEntity, { id, name, createTime, ...empty });
}

function checkServerNames(names: readonly string[]): void {
  if (names.length > maxServerNames) throw invalid("server_names", `holds ${names.length} names; the limit is ${maxServerNames}`);
  for (const name of names)
    if (isIP(name) === 0 && !hostName.test(name))
      throw invalid("server_names", `${JSON.stringify(name.slice(0, 80))} is no host name or IP address`);
}
