// Whether a certificate is still a member's: asked at each call, since the certificate itself says so until it runs out.
import { PitwallError } from "@pitwall/runtime";
import { gather } from "../nodes/gather.ts";
import type { Store } from "../store/store.ts";
import type { Member } from "./enroll.ts";

const atOnce = 500;

export class Membership {
  readonly #holds: (member: Member) => Promise<boolean>;

  constructor(store: Store) {
    this.#holds = gather(async (members) => {
      const ids = `{${[...new Set(members.map(({ id }) => id))].join(",")}}`;
      const rows: Member[] = await store
        .read()
        .execute(
          "select member.id, role from member left join node on node.id = member.id where member.id = any(?::uuid[]) and revoke_time is null",
          [ids],
        );
      const roles = new Map(rows.map(({ id, role }) => [id, role]));
      return members.map(({ id, role }) => roles.get(id) === role);
    }, atOnce);
  }

  /** Throws `denied` for one that was removed or revoked. */
  async check(member: Member): Promise<void> {
    if (await this.#holds(member)) return;
    throw new PitwallError("denied", `this ${member.role} is not known: it was removed or revoked`, { reason: "MEMBER_REVOKED" });
  }
}
