// The tables of access: tokens of programs, credentials for registries, the audit log.
import { defineEntity, p } from "@mikro-orm/core";

/** A token goes with its row: revoked, or with its maker's membership, which it refers to. */
export const ApiTokenEntity = defineEntity({
  name: "ApiToken",
  tableName: "api_token",
  properties: {
    id: p.text().primary(),
    projectId: p.uuid(),
    description: p.text(),
    role: p.text(),
    /** `Service/Method`; none: all that the role may. */
    methods: p.json<string[]>(),
    /** Hex SHA-256 of the whole token. */
    digest: p.text(),
    /** Subject of the maker. */
    createdBy: p.text(),
    createTime: p.datetime(),
    expireTime: p.datetime(),
    /** To the minute. */
    lastUsedTime: p.datetime().nullable(),
  },
});
