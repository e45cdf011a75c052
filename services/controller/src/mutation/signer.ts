// Tokens that clients carry and cannot change: plans, pages, resume positions.
//
// The key is in the database, so that all controllers of an installation have it: what one signed, every other takes. The signature keeps
// clients from making tokens up; it gives no rights, and whoever reads the database has no use for it.
import { createHmac, createSecretKey, randomBytes, timingSafeEqual } from "node:crypto";
import type { Store } from "../store/store.ts";

const secretBytes = 32;
const signatureBytes = 16;

export interface Signer {
  /** `PAYLOAD.SIGNATURE`; the payload is readable. `purpose` keeps tokens of one kind from being taken for another. */
  sign(purpose: string, payload: string): string;
  /** The payload; undefined for what was not signed for this purpose. */
  verify(purpose: string, token: string): string | undefined;
}

/** Reads the installation's key, which the first controller makes. */
export async function openSigner(store: Store): Promise<Signer> {
  await store.change((em) =>
    em.execute("insert into signing_key (name, secret) values ('tokens', ?) on conflict do nothing", [randomBytes(secretBytes)]),
  );
  const [row]: { secret: Buffer }[] = await store.read().execute("select secret from signing_key where name = 'tokens'");
  if (!row) throw new Error("the signing key is not there");
  return signerOf(row.secret);
}

export function signerOf(secret: Uint8Array): Signer {
  const key = createSecretKey(secret);
  const signatureOf = (purpose: string, payload: string): Buffer =>
    createHmac("sha256", key).update(`${purpose}\0${payload}`).digest().subarray(0, signatureBytes);
  return {
    sign: (purpose, payload) => `${payload}.${signatureOf(purpose, payload).toString("base64url")}`,
    verify(purpose, token) {
      const at = token.lastIndexOf(".");
      if (at < 0) return undefined;
      const payload = token.slice(0, at);
      const given = Buffer.from(token.slice(at + 1), "base64url");
      return given.length === signatureBytes && timingSafeEqual(given, signatureOf(purpose, payload)) ? payload : undefined;
    },
  };
}
