// The one place where a JWT or an SSH certificate is believed, and the form of API tokens.
export { digestOfApiToken, hasDigest, isApiToken, makeApiToken, parseApiToken, type ApiToken } from "./api-token.ts";
export {
  believeSshCertificate,
  certificateType,
  isSshSignature,
  issueSshCertificate,
  readSshCertificate,
  sshLineOf,
  type SshCertificate,
} from "./ssh-certificate.ts";
export { claimedSubject, openVerifier, type Verified, type Verifier } from "./verifier.ts";
