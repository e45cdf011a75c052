// A certificate that is its own authority.
import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";

export interface Certificate {
  /** Paths of PEM files. */
  readonly certificate: string;
  readonly key: string;
  readonly pem: string;
}

/** In `dir`, for `names` as the extension subjectAltName spells them. */
export async function makeCertificate(dir: string, names = "IP:127.0.0.1"): Promise<Certificate> {
  const [certificate, key] = [join(dir, "ca.crt"), join(dir, "key.pem")];
  const request = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"];
  const subject = ["-subj", "/CN=test", "-addext", `subjectAltName=${names}`];
  await promisify(execFile)("openssl", [...request, ...subject, "-keyout", key, "-out", certificate]);
  return { certificate, key, pem: await readFile(certificate, "utf8") };
}
