// Grants for ports of VMs: made for who may enter the VM, and believed again at each use.
import { believeIngressGrant, issueIngressGrant, type IngressGrant } from "@pitwall/auth";
import type { IssueIngressGrantRequest, IssueIngressGrantResponse } from "@pitwall/proto/pitwall/v1/vm.ts";
import { fromDuration, invalid, type Clock } from "@pitwall/runtime";
import type { Mutations } from "../mutation/mutations.ts";
import type { Principal } from "../projects/principal.ts";
import { reachVm } from "../projects/reach.ts";
import type { Store } from "../store/store.ts";
import { checkPort } from "../vm/ingress.ts";
import { refuseLocked } from "./locks.ts";

const usualMs = 3_600_000;
const minMs = 1_000;
const maxMs = 7 * 86_400_000;

export interface IngressGrantsParts {
  readonly store: Store;
  readonly mutations: Mutations;
  /** Of the installation. */
  readonly key: Buffer;
  readonly clock: Pick<Clock, "wallMs">;
}

export class IngressGrants {
  readonly #parts: IngressGrantsParts;

  constructor(parts: IngressGrantsParts) {
    this.#parts = parts;
  }

  /** Throws `not-found` and `denied` as for any use of the VM, and `invalid` for a port or a time that cannot be. */
  async issue(caller: Principal, { vm, port: asked, ttl }: IssueIngressGrantRequest): Promise<IssueIngressGrantResponse> {
    const ttlMs = ttl ? fromDuration(ttl) : usualMs;
    if (!(ttlMs >= minMs && ttlMs <= maxMs)) throw invalid("ttl", `must be 1 second to 7 days, got ${ttlMs / 1_000} s`);
    if (asked !== 0) checkPort(asked, "port");
    const { store, mutations, key, clock } = this.#parts;
    const row = await reachVm(store.read(), caller, vm, "member");
    await refuseLocked(store.read(), row, caller.subject);
    const port = asked === 0 ? row.httpPort : asked;
    const expiresAt = Math.floor((clock.wallMs() + ttlMs) / 1_000);
    const grant = issueIngressGrant(key, { vmId: row.id, port, subject: caller.subject, expiresAt });
    const expireTime = new Date(expiresAt * 1_000);
    await mutations.note(caller, "VmService/IssueIngressGrant", {
      object: `vm/${row.id}`,
      projectId: row.projectId,
      detail: { name: row.name, port, expireTime },
    });
    const host = row.host ?? row.id;
    return { grant, expireTime, host: port === row.httpPort ? host : `${port}-${host}`, port };
  }

  /** Throws `unauthenticated`. What it opens is for its maker's role to say. */
  believe(text: string): IngressGrant {
    return believeIngressGrant(this.#parts.key, text, Math.floor(this.#parts.clock.wallMs() / 1_000));
  }
}
