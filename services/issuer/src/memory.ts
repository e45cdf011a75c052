// The provider's storage: in memory, bounded. A restart forgets sessions and pending sign-ins; tokens are JWTs and stay good.
import type { Adapter, AdapterPayload } from "oidc-provider";

const maxEntries = 10_000;
const entries = new Map<string, { readonly payload: AdapterPayload; readonly expiresMs: number }>();

/** One per model name, as oidc-provider wants it. */
export class MemoryAdapter implements Adapter {
  readonly #model: string;

  constructor(model: string) {
    this.#model = model;
  }

  #key(id: string): string {
    return `${this.#model}:${id}`;
  }

  async upsert(id: string, payload: AdapterPayload, expiresIn: number): Promise<void> {
    const key = this.#key(id);
    entries.delete(key); // to the end: the oldest goes first
    entries.set(key, { payload, expiresMs: Date.now() + expiresIn * 1000 });
    for (const oldest of entries.keys()) {
      if (entries.size <= maxEntries) break;
      entries.delete(oldest);
    }
  }

  async find(id: string): Promise<AdapterPayload | undefined> {
    const entry = entries.get(this.#key(id));
    return entry && entry.expiresMs > Date.now() ? entry.payload : undefined;
  }

  async findByUid(uid: string): Promise<AdapterPayload | undefined> {
    return this.#findBy(({ uid: other }) => other === uid);
  }

  async findByUserCode(userCode: string): Promise<AdapterPayload | undefined> {
    return this.#findBy(({ userCode: other }) => other === userCode);
  }

  #findBy(matches: (payload: AdapterPayload) => boolean): AdapterPayload | undefined {
    for (const [key, { payload, expiresMs }] of entries) {
      if (key.startsWith(`${this.#model}:`) && expiresMs > Date.now() && matches(payload)) return payload;
    }
    return undefined;
  }

  async consume(id: string): Promise<void> {
    const entry = entries.get(this.#key(id));
    if (entry) entry.payload["consumed"] = Math.floor(Date.now() / 1000);
  }

  async destroy(id: string): Promise<void> {
    entries.delete(this.#key(id));
  }

  async revokeByGrantId(grantId: string): Promise<void> {
    for (const [key, { payload }] of entries) if (payload.grantId === grantId) entries.delete(key);
  }
}
