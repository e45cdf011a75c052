// Grants: texts that open one port of one VM by HTTP to whoever has them, until they expire. Made and believed by controllers, which share the
// key; a gateway only looks at when one expires.
import { createHmac, timingSafeEqual } from "node:crypto";
import { PitwallError } from "@pitwall/runtime";

const prefix = "pwg_";
/** What the signature is of, so that it is good for nothing else that the same key might come to sign. */
const context = "pitwall ingress grant 1\0";
const idBytes = 16;
const headBytes = idBytes + 2 + 6;
const macBytes = 32;
/** Of a subject of 255 characters, and more than any cookie needs. */
const maxTextLength = 1_600;

export interface IngressGrant {
  /** A UUID in lower case. */
  readonly vmId: string;
  /** 1 to 65535. */
  readonly port: number;
  /** Whose role in the VM's project it lives by. */
  readonly subject: string;
  /** Seconds since 1970. */
  readonly expiresAt: number;
}

/** `pwg_…`, of the letters that base64url has. */
export function issueIngressGrant(key: Buffer, { vmId, port, subject, expiresAt }: IngressGrant): string {
  const head = Buffer.alloc(headBytes);
  head.write(vmId.replaceAll("-", ""), 0, "hex");
  head.writeUInt16BE(port, idBytes);
  head.writeUIntBE(expiresAt, idBytes + 2, 6);
  const body = Buffer.concat([head, Buffer.from(subject)]);
  return `${prefix}${Buffer.concat([body, macOf(key, body)]).toString("base64url")}`;
}

/** The grant that a text is, if it is to be believed at that moment. Throws `unauthenticated`. */
export function believeIngressGrant(key: Buffer, text: string, nowSeconds: number): IngressGrant {
  const bytes = bytesOf(text);
  if (!bytes) throw refused("is damaged: it is not whole");
  const body = bytes.subarray(0, -macBytes);
  if (!timingSafeEqual(macOf(key, body), bytes.subarray(-macBytes))) throw refused("is not one of this installation");
  const grant = readBody(body);
  if (grant.expiresAt <= nowSeconds) throw refused("has expired");
  return grant;
}

/** When a grant expires by its own words, in seconds since 1970; undefined for a text that is none. */
export function claimedExpiry(text: string): number | undefined {
  const bytes = bytesOf(text);
  return bytes && readBody(bytes).expiresAt;
}

/** Only for texts as {@link issueIngressGrant} spells them: one grant has one text. */
function bytesOf(text: string): Buffer | undefined {
  if (!text.startsWith(prefix) || text.length > maxTextLength) return undefined;
  const bytes = Buffer.from(text.slice(prefix.length), "base64url");
  return bytes.length > headBytes + macBytes && bytes.toString("base64url") === text.slice(prefix.length) ? bytes : undefined;
}

function readBody(body: Buffer): IngressGrant {
  const id = body.toString("hex", 0, idBytes);
  return {
    vmId: id.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-"),
    port: body.readUInt16BE(idBytes),
    expiresAt: body.readUIntBE(idBytes + 2, 6),
    subject: body.toString("utf8", headBytes),
  };
}

function macOf(key: Buffer, body: Buffer): Buffer {
  return createHmac("sha256", key).update(context).update(body).digest();
}

function refused(why: string): PitwallError {
  return new PitwallError("unauthenticated", `the address that let you in ${why}; ask whoever gave it to you for a new one`, {
    reason: "GRANT_REFUSED",
  });
}
