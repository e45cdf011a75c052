// The installation's certificate authority: a key on disk, certificates for controllers, and for members that join.
import "reflect-metadata"; // @peculiar/x509 wants it and does not bring it
import { createHash, randomBytes, type KeyObject } from "node:crypto";
import { mkdir, readFile } from "node:fs/promises";
import { isIP } from "node:net";
import { join } from "node:path";
import {
  AuthorityKeyIdentifierExtension,
  BasicConstraintsExtension,
  ExtendedKeyUsage,
  ExtendedKeyUsageExtension,
  KeyUsageFlags,
  KeyUsagesExtension,
  PemConverter,
  Pkcs10CertificateRequest,
  SubjectAlternativeNameExtension,
  SubjectKeyIdentifierExtension,
  X509Certificate,
  X509CertificateGenerator,
  type PublicKey,
} from "@peculiar/x509";
import { invalid, systemClock, writeFileAtomic } from "@pitwall/runtime";
import { ingressKey } from "./ingress-key.ts";
import { sshAuthority, sshHostAuthority } from "./ssh-authority.ts";

const algorithm = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };
const minuteMs = 60_000;
const dayMs = 24 * 60 * minuteMs;
const skewMs = 5 * minuteMs;
const caLifeMs = 3650 * dayMs;
const serverLifeMs = 365 * dayMs;
/** Short, because nothing but time ends a member's certificate. Members renew at two thirds. */
const memberLifeMs = dayMs;

/** Who joins. */
export type Role = "node" | "gateway";
/** Who has a certificate. */
export type PeerRole = Role | "controller";

/** PEM. */
export interface KeyPair {
  readonly key: string;
  /** The leaf, and the CA after it: a joining member finds the CA there by its fingerprint. */
  readonly chain: string;
}

export interface Ca {
  /** PEM. */
  readonly certificate: string;
  /** Hex SHA-256 of the certificate's DER. */
  readonly fingerprint: string;
  /** Signs users' SSH certificates. */
  readonly sshAuthority: KeyObject;
  /** Signs SSH certificates of hosts, for this user alone. */
  readonly sshHostAuthority: (subject: string) => KeyObject;
  /** Signs grants for ports of VMs. */
  readonly ingressKey: Buffer;
  /** A key and certificate for the controller `id`, reached by these DNS names and IP addresses. It is a client too: of other controllers. */
  issueController(id: string, names: readonly string[]): Promise<KeyPair>;
  /** A certificate for the key of a request, for 24 h unless `lifeMs` says otherwise; nothing else of the request is used. Throws `invalid` for a bad one. */
  issueMember(
    member: { role: Role; id: string; serverNames: readonly string[]; lifeMs?: number },
    csr: string,
  ): Promise<{ certificate: string; expireTime: Date }>;
}

/** Reads the CA below `dir`, or makes it. */
export async function openCa(dir: string): Promise<Ca> {
  await mkdir(dir, { recursive: true, mode: 0o700 });
  const keyPath = join(dir, "key.pem");
  const certificatePath = join(dir, "certificate.pem");
  if ((await readFile(certificatePath).catch(() => undefined)) === undefined) {
    const keys = await crypto.subtle.generateKey(algorithm, true, ["sign", "verify"]);
    await writeFileAtomic(keyPath, PemConverter.encode(await crypto.subtle.exportKey("pkcs8", keys.privateKey), "PRIVATE KEY"));
    const made = await X509CertificateGenerator.createSelfSigned({
      serialNumber: serial(),
      name: "CN=Pitwall CA",
      ...validity(caLifeMs),
      keys,
      signingAlgorithm: algorithm,
      extensions: [
        new BasicConstraintsExtension(true, 0, true),
        new KeyUsagesExtension(KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign, true),
        await SubjectKeyIdentifierExtension.create(keys.publicKey),
      ],
    });
    await writeFileAtomic(certificatePath, made.toString("pem"), 0o644); // last: it is what tells that the CA is whole
  }
  const certificate = new X509Certificate(await readFile(certificatePath, "utf8"));
  const der = PemConverter.decodeFirst(await readFile(keyPath, "utf8"));
  const signingKey = await crypto.subtle.importKey("pkcs8", der, algorithm, false, ["sign"]);

  async function issue(
    publicKey: PublicKey | CryptoKey,
    subject: string,
    lifeMs: number,
    usages: ExtendedKeyUsage[],
    names: readonly { type: "url" | "dns" | "ip"; value: string }[],
  ) {
    return X509CertificateGenerator.create({
      serialNumber: serial(),
      subject,
      issuer: certificate.subject,
      ...validity(lifeMs),
      signingKey,
      publicKey,
      signingAlgorithm: algorithm,
      extensions: [
        new BasicConstraintsExtension(false, undefined, true),
        new KeyUsagesExtension(KeyUsageFlags.digitalSignature, true),
        new ExtendedKeyUsageExtension(usages),
        new SubjectAlternativeNameExtension([...names]),
        await AuthorityKeyIdentifierExtension.create(certificate),
      ],
    });
  }

  const pem = certificate.toString("pem");
  return {
    certificate: `${pem}\n`,
    sshAuthority: sshAuthority(der),
    sshHostAuthority: (subject) => sshHostAuthority(der, subject),
    ingressKey: ingressKey(der),
    fingerprint: createHash("sha256").update(Buffer.from(certificate.rawData)).digest("hex"),
    async issueController(id, serverNames) {
      const keys = await crypto.subtle.generateKey(algorithm, true, ["sign", "verify"]);
      const usages = [ExtendedKeyUsage.serverAuth, ExtendedKeyUsage.clientAuth];
      const names = [{ type: "url" as const, value: `pitwall://controller/${id}` }, ...serverNames.map(serverName)];
      const leaf = await issue(keys.publicKey, "CN=Pitwall controller", serverLifeMs, usages, names);
      const key = PemConverter.encode(await crypto.subtle.exportKey("pkcs8", keys.privateKey), "PRIVATE KEY");
      return { key, chain: `${leaf.toString("pem")}\n${pem}\n` };
    },
    async issueMember({ role, id, serverNames, lifeMs = memberLifeMs }, csr) {
      const request = await verifiedRequest(csr);
      const isGateway = role === "gateway";
      const usages = isGateway ? [ExtendedKeyUsage.clientAuth, ExtendedKeyUsage.serverAuth] : [ExtendedKeyUsage.clientAuth];
      const names = [{ type: "url" as const, value: `pitwall://${role}/${id}` }, ...(isGateway ? serverNames.map(serverName) : [])];
      const leaf = await issue(request.publicKey, `CN=${id}`, lifeMs, usages, names);
      return { certificate: `${leaf.toString("pem")}\n`, expireTime: leaf.notAfter };
    },
  };
}

async function verifiedRequest(csr: string): Promise<Pkcs10CertificateRequest> {
  const request = ((): Pkcs10CertificateRequest => {
    try {
      return new Pkcs10CertificateRequest(csr);
    } catch {
      throw invalid("csr", "is not a PEM certificate request");
    }
  })();
  const key: Partial<{ name: string; namedCurve: string }> = request.publicKey.algorithm;
  if (key.name !== "ECDSA" || key.namedCurve !== "P-256") throw invalid("csr", "must have a P-256 key");
  if (!(await request.verify())) throw invalid("csr", "is not signed by its own key");
  return request;
}

function serverName(value: string): { type: "dns" | "ip"; value: string } {
  return { type: isIP(value) === 0 ? "dns" : "ip", value };
}

function validity(lifeMs: number): { notBefore: Date; notAfter: Date } {
  const now = systemClock.wallMs();
  return { notBefore: new Date(now - skewMs), notAfter: new Date(now + lifeMs) };
}

/** 127 random bits, RFC 5280 section 4.1.2.2. */
function serial(): string {
  const bytes = randomBytes(16);
  bytes[0] = ((bytes[0] ?? 0) & 0x7f) | 0x40;
  return bytes.toString("hex");
}
