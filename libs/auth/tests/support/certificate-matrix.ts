// Writes the certificates that both verifiers are held to, ours and powerunit's, with what each is worth:
// `node libs/auth/tests/support/certificate-matrix.ts FILE`. Some are ssh-keygen's; the others no tool would make.
import { execFileSync } from "node:child_process";
import { generateKeyPairSync, randomBytes, sign, type KeyObject } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { sshString } from "@pitwall/runtime";
import { sshLineOf } from "../../src/ssh-certificate.ts";
import { sshUint32, sshUint64 } from "../../src/ssh-wire.ts";

const type = "ssh-ed25519-cert-v01@openssh.com";
const principal = "0b8cd7ef-74c1-4c7e-9a3c-0f4c2a1a7e11";
const at = 1_800_000_000n;

const newKey = (): KeyObject => generateKeyPairSync("ed25519").privateKey;
const [authority, stranger, user] = [newKey(), newKey(), newKey()];
const blobOf = (line: string): Buffer => Buffer.from(line.split(" ")[1] ?? "", "base64");
const keyOf = (key: KeyObject): Buffer => blobOf(sshLineOf(key)).subarray(-32);

type Option = readonly [name: string | Buffer, data: Buffer];

interface Content {
  readonly type: string;
  readonly nonce: Buffer;
  readonly key: Buffer;
  readonly serial: bigint;
  readonly kind: number;
  readonly keyId: string | Buffer;
  /** As they are on the wire. */
  readonly principals: Buffer;
  readonly after: bigint;
  readonly before: bigint;
  readonly critical: readonly Option[];
  readonly extensions: readonly Option[];
  readonly reserved: Buffer;
  readonly authority: Buffer;
  readonly signer: KeyObject;
  readonly algorithm: string;
  readonly signature: (made: Buffer) => Buffer;
  readonly behindSignature: Buffer;
  readonly whole: (made: Buffer) => Buffer;
}

const none = Buffer.alloc(0);
const list = (...names: readonly (string | Buffer)[]): Buffer => Buffer.concat(names.map(sshString));
const options = (all: readonly Option[]): Buffer => Buffer.concat(all.flatMap(([name, data]) => [sshString(name), sshString(data)]));
const same = (made: Buffer): Buffer => made;

const usual: Content = {
  ...{ type, nonce: randomBytes(32), key: keyOf(user), serial: 7n, kind: 1, keyId: "ada", principals: list(principal) },
  ...{ after: at - 60n, before: at + 540n, critical: [], reserved: none, authority: blobOf(sshLineOf(authority)), signer: authority },
  extensions: [
    ["permit-port-forwarding", none],
    ["permit-pty", none],
  ],
  ...{ algorithm: "ssh-ed25519", signature: same, behindSignature: none, whole: same },
};

function built(other: Partial<Content>): Buffer {
  const c = { ...usual, ...other };
  const signed = Buffer.concat([
    ...[sshString(c.type), sshString(c.nonce), sshString(c.key), sshUint64(c.serial), sshUint32(c.kind), sshString(c.keyId)],
    ...[sshString(c.principals), sshUint64(c.after), sshUint64(c.before), sshString(options(c.critical))],
    ...[sshString(options(c.extensions)), sshString(c.reserved), sshString(c.authority)],
  ]);
  const signature = [sshString(c.algorithm), sshString(c.signature(sign(undefined, signed, c.signer))), c.behindSignature];
  return c.whole(Buffer.concat([signed, sshString(Buffer.concat(signature))]));
}

const flipped = (bytes: Buffer, index: number): Buffer => {
  const changed = Buffer.from(bytes);
  changed[index] = (changed[index] ?? 0) ^ 1;
  return changed;
};
const two64 = 2n ** 64n;
const two63 = 2n ** 63n;

const good: readonly (readonly [string, Partial<Content>])[] = [
  ["as a controller makes it", {}],
  ["with no extension", { extensions: [] }],
  ["with an extension that nobody knows", { extensions: [["x@example.org", none]] }],
  ["with an extension that has a value", { extensions: [["x@example.org", sshString("value")]] }],
  ["with an extension that is named like a condition", { extensions: [["force-command", sshString("true")]] }],
  ["for several VMs, this one last", { principals: list("a", "b", principal) }],
  ["that names the VM twice", { principals: list(principal, principal) }],
  ["of serial 0", { serial: 0n }],
  ["of the largest serial", { serial: two64 - 1n }],
  ["that begins now", { after: at }],
  ["that begins within the skew of clocks", { after: at + 30n }],
  ["that has always been good", { after: 0n }],
  ["that ends in a second", { before: at + 1n }],
  ["that ends as late as can be", { before: two63 - 1n }],
  ["without a nonce", { nonce: none }],
  ["with a long nonce", { nonce: randomBytes(1_000) }],
  ["without a key id", { keyId: "" }],
  ["with a key id of many letters", { keyId: "zoë 東京 🚀" }],
  ["as long as can be", { nonce: randomBytes(32 + 4_096 - built({}).length) }],
];

const bad: readonly (readonly [string, Partial<Content>])[] = [
  ["of another authority", { authority: blobOf(sshLineOf(stranger)), signer: stranger }],
  ["that names the authority and is signed by another", { signer: stranger }],
  ["that its own key has signed", { authority: blobOf(sshLineOf(user)), signer: user }],
  ["whose authority is a certificate", { authority: built({}) }],
  ["whose authority is no key", { authority: sshString("ssh-ed25519") }],
  ["of a host", { kind: 2 }],
  ["of kind 0", { kind: 0 }],
  ["of kind 3", { kind: 3 }],
  ["of another type's name", { type: "ssh-ed25519-cert-v00@openssh.com" }],
  ["of an RSA certificate's name", { type: "ssh-rsa-cert-v01@openssh.com" }],
  ["that names nobody", { principals: none }],
  ["for another VM", { principals: list("1b8cd7ef-74c1-4c7e-9a3c-0f4c2a1a7e11") }],
  ["for the VM in capitals", { principals: list(principal.toUpperCase()) }],
  ["for the VM and a blank", { principals: list(`${principal} `) }],
  ["for the VM's beginning", { principals: list(principal.slice(0, -1)) }],
  ["for the VM in a list of one word", { principals: list(`${principal},other`) }],
  ["for every VM", { principals: list("*") }],
  ["for a VM without a name", { principals: list("") }],
  ["that names the VM as its user", { keyId: principal, principals: list("other") }],
  ["for the VM and a zero byte", { principals: list(`${principal}\0`) }],
  ["for the VM, and for what cannot be shown", { principals: list(principal, "a\nb") }],
  ["for the VM, and for no text", { principals: list(principal, Buffer.from([0xff])) }],
  ["whose list of VMs is cut", { principals: list(principal).subarray(0, -1) }],
  ["that has just ended", { before: at }],
  ["that ended long ago", { after: 0n, before: 1n }],
  ["that ends before it begins", { after: at - 1n, before: at - 2n }],
  ["that was never good", { after: 0n, before: 0n }],
  ["that begins beyond the skew of clocks", { after: at + 31n }],
  ["that begins next year", { after: at + 31_536_000n, before: at + 31_537_000n }],
  ["that begins in a negative number", { after: two63, before: two64 - 1n }],
  ["that ends in a negative number", { before: two63 }],
  ["that has no end", { before: two64 - 1n }],
  ["with a forced command", { critical: [["force-command", sshString("true")]] }],
  ["for some addresses", { critical: [["source-address", sshString("127.0.0.0/8")]] }],
  ["that wants its user verified", { critical: [["verify-required", none]] }],
  ["with a condition that nobody knows", { critical: [["x@example.org", none]] }],
  ["with a condition without a name", { critical: [["", none]] }],
  ["with something in the reserved field", { reserved: Buffer.from([0]) }],
  ["with a byte behind its end", { whole: (made) => Buffer.concat([made, none, Buffer.from([0])]) }],
  ["without its last byte", { whole: (made) => made.subarray(0, -1) }],
  ["of no bytes", { whole: () => none }],
  ["that is the key alone", { whole: () => blobOf(sshLineOf(user)) }],
  ["with extensions in disorder", { extensions: usual.extensions.toReversed() }],
  ["with an extension twice", { extensions: [...usual.extensions, ["permit-pty", none]] }],
  ["with an extension whose value goes on", { extensions: [["x@example.org", Buffer.concat([sshString("v"), Buffer.from([0])])]] }],
  ["with an extension whose value is cut", { extensions: [["x@example.org", Buffer.from([0, 0, 0, 9])]] }],
  ["with an extension whose value is an empty one", { extensions: [["x@example.org", sshString("")]] }],
  ["with an extension that cannot be shown", { extensions: [["a\x1b[31m", none]] }],
  ["with a key that is a byte short", { key: usual.key.subarray(1) }],
  ["with a key that is a byte long", { key: Buffer.concat([usual.key, Buffer.from([0])]) }],
  ["with a signature that is a byte short", { signature: (made) => made.subarray(1) }],
  ["with a signature of zeros", { signature: (made) => Buffer.alloc(made.length) }],
  ["with a signature of another name", { algorithm: "rsa-sha2-512" }],
  ["with something behind the signature", { behindSignature: Buffer.from([0]) }],
  ["with a bit of the signature changed", { whole: (made) => flipped(made, made.length - 40) }],
  ["with a bit of the nonce changed", { whole: (made) => flipped(made, type.length + 12) }],
  ["with a bit of the key changed", { whole: (made) => flipped(made, type.length + 50) }],
  ["with a key id that cannot be shown", { keyId: "ada\nroot" }],
  ["with a key id that is no text", { keyId: Buffer.from([0x61, 0xc3]) }],
  ["longer than can be", { nonce: randomBytes(32 + 4_097 - built({}).length) }],
];

/** What ssh-keygen makes: keys of other kinds, and authorities of other kinds. */
function bySshKeygen(): (readonly [string, Buffer, boolean])[] {
  const dir = mkdtempSync(join(tmpdir(), "pitwall-matrix-"));
  try {
    const keygen = (...words: string[]): Buffer => execFileSync("ssh-keygen", ["-q", ...words]);
    const make = (kind: string, name: string): string => {
      keygen("-t", kind, "-N", "", "-C", "", "-f", join(dir, name));
      return join(dir, name);
    };
    const made = (ca: string, kind: string, name: string): Buffer => {
      const key = make(kind, name);
      keygen("-s", ca, "-I", "ada", "-n", principal, "-V", "20270101:20270201", `${key}.pub`);
      return blobOf(readFileSync(`${key}-cert.pub`, "utf8"));
    };
    const [rsa, ecdsa, ed25519] = [make("rsa", "rsa"), make("ecdsa", "ecdsa"), make("ed25519", "ed25519")];
    return [
      ["of an RSA authority", made(rsa, "ed25519", "of-rsa"), false],
      ["of an ECDSA authority", made(ecdsa, "ed25519", "of-ecdsa"), false],
      ["of another authority, by ssh-keygen", made(ed25519, "ed25519", "of-ed25519"), false],
      ["of an RSA key", made(ed25519, "rsa", "rsa-user"), false],
      ["of an ECDSA key", made(ed25519, "ecdsa", "ecdsa-user"), false],
    ];
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

const rows = [
  ...good.map(([name, other]) => [name, built(other), true] as const),
  ...bad.map(([name, other]) => [name, built(other), false] as const),
  ...bySshKeygen(),
];
const certificates = rows.map(([name, blob, isGood]) => ({ name, isGood, blob: blob.toString("base64") }));
const [, , file = ""] = process.argv;
writeFileSync(
  file,
  `${JSON.stringify({ authority: sshLineOf(authority), principal, atSeconds: Number(at), certificates }, undefined, 1)}\n`,
);
