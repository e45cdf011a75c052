// API tokens: proven here, and looked at again while their calls last.
import { hasDigest, parseApiToken } from "@pitwall/auth";
import { PitwallError } from "@pitwall/runtime";
import { projectRoles, type Principal } from "../projects/principal.ts";
import type { Store } from "../store/store.ts";

interface Found {
  readonly project_id: string;
  readonly role: string;
  readonly methods: string[];
  readonly digest: string;
  readonly created_by: string;
  readonly is_alive: boolean;
  readonly is_stale: boolean;
}

export class Tokens {
  readonly #store: Store;

  constructor(store: Store) {
    this.#store = store;
  }

  /**
   * Of a header that holds an API token. One that never was, one that was revoked, one whose maker has left and one with another secret
   * are refused in the same words, after the same steps. Throws `unauthenticated`.
   */
  async authenticate(authorization: string): Promise<Principal> {
    const token = parseApiToken(authorization);
    if (!token) throw refused();
    const em = this.#store.read();
    const [found]: Found[] = await em.execute(
      `select project_id, role, methods, digest, created_by, expire_time > now() as is_alive,
         coalesce(last_used_time < now() - interval '1 minute', true) as is_stale
       from api_token where id = ?`,
      [token.id],
    );
    const role = projectRoles.find((known) => known === found?.role);
    if (!hasDigest(token, found?.digest ?? "") || !found || !role) throw refused();
    if (!found.is_alive) throw new PitwallError("unauthenticated", "the API token has expired: make another", { reason: "TOKEN_EXPIRED" });
    if (found.is_stale) await em.execute("update api_token set last_used_time = now() where id = ?", [token.id]);
    const scope = { id: token.id, projectId: found.project_id, role, methods: new Set(found.methods) };
    return { subject: found.created_by, username: "", isAdmin: false, token: scope };
  }

  /** Those of the ids that may still be used. */
  async valid(ids: readonly string[]): Promise<ReadonlySet<string>> {
    const list = JSON.stringify(ids);
    const rows: { id: string }[] = await this.#store
      .read()
      .execute("select id from api_token where id in (select jsonb_array_elements_text(?::jsonb)) and expire_time > now()", [list]);
    return new Set(rows.map(({ id }) => id));
  }
}

function refused(): PitwallError {
  return new PitwallError("unauthenticated", "the API token is not known here, was revoked, or its maker has left the project", {
    reason: "TOKEN_INVALID",
  });
}
