// AuditService: the API's words around the audit log.
import type { AuditServiceImplementation } from "@pitwall/proto/pitwall/v1/audit.ts";
import type { AuditLog } from "../audit/audit-log.ts";
import { userOf, type CallerContext } from "./identity.ts";
import type { Pages } from "./page.ts";

export function auditService(log: AuditLog, pages: Pages): AuditServiceImplementation<CallerContext> {
  return {
    async listAuditEntries(request, context) {
      const { project, filter } = request;
      const { limit, after, cut } = pages(userOf(context), ["ListAuditEntries", project, filter], request);
      const before = after === "" ? undefined : BigInt(after);
      const found = await log.list(userOf(context), { project, filter, limit: limit + 1, before });
      const { page, nextPageToken } = cut(found, ({ index }) => String(index));
      return { entries: page, nextPageToken };
    },
    getAuditHead: async () => ({ head: await log.head() }),
    async *exportAudit({ startIndex }) {
      for await (const item of log.export(startIndex)) {
        yield { item: "head" in item ? { $case: "head", value: item.head } : { $case: "entry", value: item } };
      }
    },
  };
}
