// What the issuer must remember over restarts, so that tokens stay good: its signing key, cookie keys and one client's secret.
import { randomBytes } from "node:crypto";
import { mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { writeFileAtomic } from "@pitwall/runtime";
import { exportJWK, generateKeyPair, type JWK } from "jose";
import { z } from "zod";

const stored = z.object({ signingKey: z.record(z.string(), z.unknown()), cookieKey: z.string(), clientSecret: z.string() });

export interface Secrets {
  readonly signingKey: JWK;
  readonly cookieKey: string;
  /** Of the client `pitwall-quickstart`; also in a file of its own, for that client to read. */
  readonly clientSecret: string;
  readonly clientSecretFile: string;
}

export async function openSecrets(dir: string): Promise<Secrets> {
  await mkdir(dir, { recursive: true, mode: 0o700 });
  const path = join(dir, "secrets.json");
  const clientSecretFile = join(dir, "quickstart.secret");
  const text = await readFile(path, "utf8").catch(() => undefined);
  const kept = text === undefined ? await make() : stored.parse(JSON.parse(text));
  if (text === undefined) await writeFileAtomic(path, JSON.stringify(kept));
  await writeFileAtomic(clientSecretFile, kept.clientSecret);
  return { ...kept, clientSecretFile };
}

async function make(): Promise<z.output<typeof stored>> {
  const { privateKey } = await generateKeyPair("ES256", { extractable: true });
  const signingKey = { ...(await exportJWK(privateKey)), alg: "ES256", use: "sig", kid: randomBytes(8).toString("hex") };
  return { signingKey, cookieKey: randomBytes(32).toString("base64url"), clientSecret: randomBytes(32).toString("base64url") };
}
