// Certificates of SSH: those of users, made by the installation's authority and believed, and those of hosts, which clients believe. The format
// is OpenSSH's (PROTOCOL.certkeys), for ed25519 keys and an ed25519 authority alone: those that we make have no others, and what is not read
// cannot be read wrongly. powerunit has a second verifier (guest/powerunit/internal/sshd/certificates.go), and tests/ssh-certificate-matrix.test.ts holds both to the same answers.
import { createPublicKey, sign, verify, type KeyObject } from "node:crypto";
import { PitwallError, sshEd25519Line, sshString } from "@pitwall/runtime";
import { SshReader, sshUint32, sshUint64 } from "./ssh-wire.ts";

export const certificateType = "ssh-ed25519-cert-v01@openssh.com";
const keyType = "ssh-ed25519";
const userCertificate = 1;
const hostCertificate = 2;
const keyBytes = 32;
const signatureBytes = 64;
const maxBytes = 4_096;
/** Between the clocks of the controllers. */
const skewSeconds = 30n;
/** What is beyond it some read as a negative number, and all ones as for ever. */
const lastSecond = 2n ** 63n - 1n;

export interface SshCertificate {
  /** `ssh-ed25519 AAAA…`: the key that it is about. */
  readonly publicKey: string;
  readonly serial: bigint;
  readonly keyId: string;
  readonly principals: readonly string[];
  /** Seconds since 1970. */
  readonly validAfter: bigint;
  readonly validBefore: bigint;
  /** Names of what must be understood. */
  readonly criticalOptions: readonly string[];
  /** What it allows, such as `permit-pty`. */
  readonly extensions: readonly string[];
  /** `ssh-ed25519 AAAA…` */
  readonly authority: string;
}

/** What {@link issueSshCertificate} is told. */
export type SshCertificateContent = Omit<SshCertificate, "criticalOptions" | "authority"> & { readonly nonce: Buffer };
/** What {@link issueSshHostCertificate} is told: a host's allows nothing. */
export type SshHostCertificateContent = Omit<SshCertificateContent, "extensions">;

/** Reads a blob, and proves that the authority that it names has signed it: not that this one is to be believed. Throws `invalid`. */
export function readSshCertificate(blob: Buffer): SshCertificate {
  if (blob.length > maxBytes) throw bad(`is longer than ${maxBytes} bytes`);
  const reader = new SshReader(blob);
  if (reader.string().toString("latin1") !== certificateType) throw bad(`must be of type ${certificateType}`);
  reader.string(); // the nonce
  const publicKey = keyLine(reader.string());
  const serial = reader.uint64();
  if (reader.uint32() !== userCertificate) throw bad("must be a user's, not a host's");
  const keyId = text(reader.string());
  const principals = strings(reader.string()).map(text);
  const [validAfter, validBefore] = [reader.uint64(), reader.uint64()];
  const criticalOptions = names(reader.string());
  const extensions = names(reader.string());
  if (reader.string().length > 0) throw bad("has something where nothing may be");
  const authorityBlob = reader.string();
  const signed = blob.subarray(0, reader.at);
  const signature = reader.string();
  if (!reader.isAtEnd) throw bad("has something behind its end");
  const authority = keyOf(authorityBlob);
  if (!isSignature(signature, signed, authority)) throw bad("is not signed by the authority that it names");
  return { publicKey, serial, keyId, principals, validAfter, validBefore, criticalOptions, extensions, authority: keyLine(authority) };
}

export interface Expected {
  /** `ssh-ed25519 AAAA…`, the only one that is believed. */
  readonly authority: string;
  /** One of those that it must name; undefined: whichever. */
  readonly principal: string | undefined;
  /** Seconds since 1970 of the moment for which it must be good. */
  readonly atSeconds: bigint;
}

/** The certificate of a blob, if it is to be believed. Throws `invalid` for what is none and `unauthenticated` otherwise. */
export function believeSshCertificate(blob: Buffer, { authority, principal, atSeconds }: Expected): SshCertificate {
  const certificate = readSshCertificate(blob);
  const refuse = (why: string): PitwallError =>
    new PitwallError("unauthenticated", `the certificate ${why}`, { reason: "CERTIFICATE_REFUSED" });
  if (certificate.authority !== authority) throw refuse("is of an authority that is not this installation's");
  if (atSeconds < certificate.validAfter - skewSeconds) throw refuse("is not valid yet");
  if (atSeconds >= certificate.validBefore) throw refuse("has expired");
  if (certificate.validBefore > lastSecond) throw refuse("has no end");
  // One without a name would be anybody's (PROTOCOL.certkeys): such a one is never made here.
  if (certificate.principals.length === 0) throw refuse("names nobody");
  if (principal !== undefined && !certificate.principals.includes(principal)) throw refuse("is for something else");
  const [unknown] = certificate.criticalOptions;
  if (unknown !== undefined) throw refuse(`has the condition ${JSON.stringify(unknown)}, which is not known here`);
  return certificate;
}

/** `ssh-ed25519-cert-v01@openssh.com AAAA…`, of a user, signed by an ed25519 key. Throws `invalid` for a key of another kind. */
export function issueSshCertificate(authority: KeyObject, content: SshCertificateContent): string {
  return issue(authority, userCertificate, content);
}

/** The same of a host; its principals are names that clients know it by. */
export function issueSshHostCertificate(authority: KeyObject, content: SshHostCertificateContent): string {
  return issue(authority, hostCertificate, { ...content, extensions: [] });
}

function issue(authority: KeyObject, kind: number, content: SshCertificateContent): string {
  const { publicKey, nonce, serial, keyId, principals, validAfter, validBefore, extensions } = content;
  const named = (all: readonly string[]): Buffer =>
    sshString(Buffer.concat(all.toSorted().flatMap((name) => [sshString(name), sshString("")])));
  const signed = Buffer.concat([
    ...[sshString(certificateType), sshString(nonce), sshString(keyOf(blobOf(publicKey))), sshUint64(serial), sshUint32(kind)],
    ...[sshString(keyId), sshString(Buffer.concat(principals.map(sshString))), sshUint64(validAfter), sshUint64(validBefore)],
    ...[named([]), named(extensions), sshString(""), sshString(blobOf(sshLineOf(authority)))],
  ]);
  const signature = Buffer.concat([sshString(keyType), sshString(sign(undefined, signed, authority))]);
  return `${certificateType} ${Buffer.concat([signed, sshString(signature)]).toString("base64")}`;
}

/** `ssh-ed25519 AAAA…` of an ed25519 key, private or public. */
export function sshLineOf(key: KeyObject): string {
  const { x = "" } = (key.type === "private" ? createPublicKey(key) : key).export({ format: "jwk" });
  return keyLine(Buffer.from(x, "base64url"));
}

/** Whether `signature`, as SSH has it, is of this data by the key of an `ssh-ed25519 AAAA…` line, which a certificate was read with. */
export function isSshSignature(signature: Buffer, data: Buffer, publicKey: string): boolean {
  return isSignature(signature, data, keyOf(blobOf(publicKey)));
}

/** As SSH has it: the name of the algorithm, and the signature. */
function isSignature(signature: Buffer, data: Buffer, key: Buffer): boolean {
  const raw = signature.subarray(-signatureBytes);
  if (!signature.equals(Buffer.concat([sshString(keyType), sshString(raw)])) || raw.length !== signatureBytes) return false;
  return verify(
    undefined,
    data,
    createPublicKey({ key: { kty: "OKP", crv: "Ed25519", x: key.toString("base64url") }, format: "jwk" }),
    raw,
  );
}

function keyLine(raw: Buffer): string {
  if (raw.length !== keyBytes) throw bad("has a key of the wrong length");
  return sshEd25519Line(raw);
}

function blobOf(line: string): Buffer {
  const [type, encoded = ""] = line.split(" ");
  if (type !== keyType) throw new PitwallError("invalid", `the key must be of type ${keyType}`, { field: "public_key" });
  return Buffer.from(encoded, "base64");
}

/** The 32 bytes in a key's blob. */
function keyOf(blob: Buffer): Buffer {
  const reader = new SshReader(blob);
  if (reader.string().toString("latin1") !== keyType) throw bad(`must have an authority of type ${keyType}`);
  const raw = reader.string();
  if (raw.length !== keyBytes || !reader.isAtEnd) throw bad("has a key of the wrong length");
  return raw;
}

function strings(packed: Buffer): Buffer[] {
  const reader = new SshReader(packed);
  const found: Buffer[] = [];
  while (!reader.isAtEnd) found.push(reader.string());
  return found;
}

/** Of pairs of a name and a value, in the order of the names, each once. A value is a string, and nothing at all when it is empty. */
function names(packed: Buffer): string[] {
  const reader = new SshReader(packed);
  const found: Buffer[] = [];
  while (!reader.isAtEnd) {
    const name = reader.string();
    const last = found.at(-1);
    if (last && name.compare(last) <= 0) throw bad("has names that are not in order");
    found.push(name);
    const value = new SshReader(reader.string());
    if (!value.isAtEnd && (value.string().length === 0 || !value.isAtEnd)) throw bad("has a value that is no string");
  }
  return found.map(text);
}

function text(bytes: Buffer): string {
  const read = bytes.toString("utf8");
  if (!Buffer.from(read).equals(bytes) || /\p{Cc}/u.test(read)) throw bad("has a name that cannot be shown");
  return read;
}

function bad(what: string): PitwallError {
  return new PitwallError("invalid", `the certificate ${what}`, { reason: "BAD_CERTIFICATE" });
}
