// How a node or gateway becomes a member: join once, keep the certificate, renew it in time.
export type { ControllerAddress } from "./addresses.ts";
export { openIdentity, type Identity, type TlsIdentity } from "./identity.ts";
export { formatJoin, parseJoin, type Join } from "./join-string.ts";
export { checkLabels, labelKey, labelValue, type Labels } from "./labels.ts";
export { makeRequest } from "./request.ts";
