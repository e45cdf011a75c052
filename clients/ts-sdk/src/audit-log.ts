// The audit log: what was changed, by whom.
import type { Client } from "nice-grpc-web";
import { present, type CallExtras } from "./calls.ts";
import type { AuditEntry, AuditHead, AuditServiceDefinition } from "./gen/pitwall/v1/audit.ts";

const pageSize = 200;

export interface AuditQuery {
  /** Name or id; default: the personal project; `-`, for administrators: everything. */
  project?: string;
  /** Such as `actor = "ada" AND time > "2026-01-01T00:00:00Z"`. */
  filter?: string;
}

/** All calls throw `PitwallRpcError`. */
export class AuditLog {
  readonly #raw: Client<typeof AuditServiceDefinition, CallExtras>;

  constructor(raw: Client<typeof AuditServiceDefinition, CallExtras>) {
    this.#raw = raw;
  }

  /** Newest first; read page by page, as far as somebody reads. */
  async *list({ project = "", filter = "" }: AuditQuery = {}): AsyncGenerator<AuditEntry, void, undefined> {
    for (let pageToken = ""; ;) {
      const page = await this.#raw.listAuditEntries({ project, filter, pageSize, pageToken }, { retry: true });
      yield* page.entries;
      pageToken = page.nextPageToken;
      if (pageToken === "") return;
    }
  }

  /** The latest signed head. */
  async head(): Promise<AuditHead> {
    return present((await this.#raw.getAuditHead({}, { retry: true })).head);
  }

  /** For administrators: all entries, then the signed head that covers them. */
  async *export({ startIndex = 0n, signal }: { startIndex?: bigint; signal?: AbortSignal } = {}): AsyncGenerator<
    { entry: AuditEntry } | { head: AuditHead },
    void,
    undefined
  > {
    for await (const { item } of this.#raw.exportAudit({ startIndex }, signal ? { signal } : {})) {
      if (item?.$case === "entry") yield { entry: item.value };
      if (item?.$case === "head") yield { head: item.value };
    }
  }
}
