// The one place where a JWT, an SSH certificate or a grant is believed, and the form of API tokens.
export { digestOfApiToken, hasDigest, isApiToken, makeApiToken, parseApiToken, type ApiToken } from "./api-token.ts";
export { believeIngressGrant, claimedExpiry, issueIngressGrant, type IngressGrant } from "./ingress-grant.ts";
export {
  believeSshCertificate,
  certificateType,
  isSshSignature,
  issueSshCertificate,
  issueSshHostCertificate,
  readSshCertificate,
  sshLineOf,
  type SshCertificate,
} from "./ssh-certificate.ts";
export { issuerSettings, verifierOptions } from "./issuer-settings.ts";
export { claimedSubject, openVerifier, type Verified, type Verifier } from "./verifier.ts";
