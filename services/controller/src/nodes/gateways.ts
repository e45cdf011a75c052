// Gateways as administrators see them: who has a certificate of one, and how to take it back. Nothing of a gateway is kept but that.
import { NodeServiceDefinition, type Gateway, type RevokeGatewayRequest } from "@pitwall/proto/pitwall/v1/node.ts";
import { isUuid, PitwallError } from "@pitwall/runtime";
import type { Mutations } from "../mutation/mutations.ts";
import type { Principal } from "../projects/principal.ts";
import { MemberEntity } from "../store/entities.ts";
import type { Store } from "../store/store.ts";

const service = NodeServiceDefinition;

export class Gateways {
  readonly #store: Store;
  readonly #mutations: Mutations;

  constructor({ store, mutations }: { readonly store: Store; readonly mutations: Mutations }) {
    this.#store = store;
    this.#mutations = mutations;
  }

  /** All, by name. */
  async list(): Promise<Gateway[]> {
    const rows = await this.#store.read().find(MemberEntity, { role: "gateway" }, { orderBy: { name: "asc" } });
    return rows.map(({ id, name, createTime, certificateExpireTime }) => ({ id, name, createTime, certificateExpireTime }));
  }

  /** Its id is nobody's from then on, so that no certificate of it counts (enroll/membership.ts). Throws `not-found`. */
  revoke(caller: Principal, request: RevokeGatewayRequest): Promise<Record<never, never>> {
    const { gateway: reference } = request;
    return this.#mutations.run({
      service,
      method: service.methods.revokeGateway,
      caller,
      request,
      work: async ({ em, audit }) => {
        const byId = isUuid(reference) ? [{ id: reference }] : [];
        const found = await em.findOne(MemberEntity, { role: "gateway", $or: [{ name: reference }, ...byId] });
        if (!found) {
          const message = `there is no gateway ${JSON.stringify(reference.slice(0, 80))}`;
          throw new PitwallError("not-found", message, { reason: "GATEWAY_NOT_FOUND", field: "gateway" });
        }
        await em.nativeDelete(MemberEntity, { id: found.id });
        await audit({ object: `gateway/${found.id}`, detail: { name: found.name } });
        return {};
      },
    });
  }
}
