// A key and the certificate request for it.
import "reflect-metadata"; // @peculiar/x509 wants it and does not bring it
import { Pkcs10CertificateRequestGenerator } from "@peculiar/x509";

export interface KeyAndRequest {
  /** PKCS#8 PEM, P-256. */
  readonly key: string;
  /** PKCS#10 PEM. The controller takes nothing from it but the public key. */
  readonly csr: string;
}

export async function makeRequest(name: string): Promise<KeyAndRequest> {
  const algorithm = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };
  const keys = await crypto.subtle.generateKey(algorithm, true, ["sign", "verify"]);
  const csr = await Pkcs10CertificateRequestGenerator.create({ name: `CN=${name}`, keys, signingAlgorithm: algorithm }, crypto);
  const der = Buffer.from(await crypto.subtle.exportKey("pkcs8", keys.privateKey));
  const body = der.toString("base64").match(/.{1,64}/g) ?? [];
  return { key: `-----BEGIN PRIVATE KEY-----\n${body.join("\n")}\n-----END PRIVATE KEY-----\n`, csr: csr.toString("pem") };
}
