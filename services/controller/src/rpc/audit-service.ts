// AuditService: the API's words around the audit log.
import type { AuditServiceImplementation } from "@pitwall/proto/pitwall/v1/audit.ts";
import { invalid } from "@pitwall/runtime";
import type { AuditLog } from "../audit/audit-log.ts";
import { userOf, type CallerContext } from "./identity.ts";
import { pageLimit } from "./page.ts";

export function auditService(log: AuditLog): AuditServiceImplementation<CallerContext> {
  return {
    async listAuditEntries({ project, pageSize, pageToken, filter }, context) {
      const limit = pageLimit(pageSize);
      if (!/^\d{0,18}$/.test(pageToken)) throw invalid("page_token", "is not one that a list returned");
      const before = pageToken === "" ? undefined : BigInt(pageToken);
      const found = await log.list(userOf(context), { project, filter, limit: limit + 1, before });
      const entries = found.slice(0, limit);
      return { entries, nextPageToken: found.length > limit ? String(entries.at(-1)?.index ?? "") : "" };
    },
    getAuditHead: async () => ({ head: await log.head() }),
    async *exportAudit({ startIndex }) {
      for await (const item of log.export(startIndex)) {
        yield { item: "head" in item ? { $case: "head", value: item.head } : { $case: "entry", value: item } };
      }
    },
  };
}
