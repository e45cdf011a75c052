// Secrets at rest: sealed with AES-256-GCM under a key that is in a file and never in the database.
import { createCipheriv, createDecipheriv, createHash, createHmac, randomBytes } from "node:crypto";
import { readFile } from "node:fs/promises";
import { PitwallError, readOrMake } from "@pitwall/runtime";

const algorithm = "aes-256-gcm";
const keyBytes = 32;
const nonceBytes = 12;
const tagBytes = 16;

export interface Sealed {
  /** Which key it takes. */
  readonly keyId: string;
  /** Nonce, ciphertext, tag. */
  readonly box: Uint8Array;
}

interface Key {
  /** The first 16 hex digits of its SHA-256. */
  readonly id: string;
  readonly secret: Buffer;
}

export class SecretBox {
  readonly #keys: readonly [Key, ...Key[]];

  /** Seals with the first key, opens with each. */
  constructor(secrets: readonly [Buffer, ...Buffer[]]) {
    const [first, ...rest] = secrets;
    this.#keys = [keyOf(first), ...rest.map(keyOf)];
  }

  /** Of the key that seals. */
  get keyId(): string {
    return this.#keys[0].id;
  }

  /** Of those that only open. */
  get olderKeyIds(): readonly string[] {
    return this.#keys.slice(1).map(({ id }) => id);
  }

  /** The same for the same secret, and of no use to whoever has no key. */
  fingerprint(secret: string): string {
    return createHmac("sha256", this.#keys[0].secret).update(`fingerprint\0${secret}`).digest("hex");
  }

  /** `about` says what the secret belongs to: it opens for the same only, so that a row that is moved elsewhere is worth nothing. */
  seal(secret: string, about: string): Sealed {
    const [key] = this.#keys;
    const nonce = randomBytes(nonceBytes);
    const cipher = createCipheriv(algorithm, key.secret, nonce).setAAD(Buffer.from(about));
    return { keyId: key.id, box: Buffer.concat([nonce, cipher.update(secret, "utf8"), cipher.final(), cipher.getAuthTag()]) };
  }

  /** Throws `unavailable` when the key is not in the file, `corrupt` for a box that was changed or is about something else. */
  open({ keyId, box }: Sealed, about: string): string {
    const key = this.#keys.find(({ id }) => id === keyId);
    if (!key)
      throw new PitwallError("unavailable", `a stored secret takes the key ${keyId}, which is not in the controller's key file`, {
        reason: "SECRET_KEY_MISSING",
      });
    try {
      const decipher = createDecipheriv(algorithm, key.secret, box.subarray(0, nonceBytes), { authTagLength: tagBytes });
      decipher.setAAD(Buffer.from(about)).setAuthTag(box.subarray(-tagBytes));
      return Buffer.concat([decipher.update(box.subarray(nonceBytes, -tagBytes)), decipher.final()]).toString("utf8");
    } catch (cause) {
      throw new PitwallError("corrupt", "a stored secret was changed, or moved to another place", { reason: "SECRET_DAMAGED", cause });
    }
  }
}

function keyOf(secret: Buffer): Key {
  return { id: createHash("sha256").update(secret).digest("hex").slice(0, 16), secret };
}

/** Reads the key file: one key a line, 32 bytes in base64, the one that seals first. Without `isGiven` it is made where it is not. */
export async function openSecretBox(path: string, isGiven: boolean): Promise<SecretBox> {
  const reading = isGiven ? readFile(path, "utf8") : readOrMake(path, () => `${randomBytes(keyBytes).toString("base64")}\n`);
  const text = await reading.catch((cause: unknown) => {
    throw faulty(`cannot be read: ${cause instanceof Error ? cause.message : String(cause)}`);
  });
  const lines = text.split("\n").flatMap((line) => (line.trim() === "" ? [] : [line.trim()]));
  const [first, ...rest] = lines.map((line) => Buffer.from(line, "base64"));
  if (!first || [first, ...rest].some(({ length }) => length !== keyBytes))
    throw faulty("must hold keys of 32 bytes in base64, one a line: `openssl rand -base64 32` makes one");
  return new SecretBox([first, ...rest]);
}

function faulty(why: string): PitwallError {
  return new PitwallError("invalid", `configuration: PITWALL_SECRETS_KEY_FILE: the file ${why}`, { reason: "INVALID_CONFIG" });
}
