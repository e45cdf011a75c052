// Tokens that were found to be good: verifying one costs more than all else of many a call. Each counts until it expires, unless the issuer's
// keys change or stop to count. They are kept by their digests, so that no memory dump has any that is good.
import { hash } from "node:crypto";
import type { Clock } from "@pitwall/runtime";

const maxKnown = 10_000;

export class KnownTokens<T extends { readonly expiresAt: Date }> {
  readonly #clock: Pick<Clock, "wallMs">;
  /** The one that was used longest ago first. */
  readonly #known = new Map<string, T>();

  constructor(clock: Pick<Clock, "wallMs">) {
    this.#clock = clock;
  }

  find(token: string): T | undefined {
    const digest = digestOf(token);
    const verified = this.#known.get(digest);
    if (!verified) return undefined;
    this.#known.delete(digest);
    if (verified.expiresAt.getTime() <= this.#clock.wallMs()) return undefined;
    this.#known.set(digest, verified);
    return verified;
  }

  add(token: string, verified: T): void {
    this.#known.set(digestOf(token), verified);
    const [oldest] = this.#known.keys();
    if (this.#known.size > maxKnown && oldest !== undefined) this.#known.delete(oldest);
  }

  forgetAll(): void {
    this.#known.clear();
  }
}

function digestOf(token: string): string {
  return hash("sha256", token, "base64");
}
