// The tables of access: tokens of programs, credentials for registries.
import { defineEntity, p, type InferEntity } from "@mikro-orm/core";

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
export type ApiTokenRow = InferEntity<typeof ApiTokenEntity>;

/** One per project and registry. The secret is sealed: only the controller's key file opens it. */
export const RegistryCredentialEntity = defineEntity({
  name: "RegistryCredential",
  tableName: "registry_credential",
  properties: {
    projectId: p.uuid().primary(),
    /** `host[:port]`, as image references are resolved. */
    registry: p.text().primary(),
    username: p.text(),
    keyId: p.text(),
    box: p.blob(),
    createTime: p.datetime(),
    updateTime: p.datetime(),
  },
});
export type RegistryCredentialRow = InferEntity<typeof RegistryCredentialEntity>;
