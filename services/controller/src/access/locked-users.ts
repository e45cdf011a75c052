// Who is locked out, as each call asks: known from the database, and a second old at most.
import type { Clock, PitwallError } from "@pitwall/runtime";
import type { Store } from "../store/store.ts";
import { lockedOut } from "./locks.ts";

const freshMs = 1_000;

export class LockedUsers {
  readonly #store: Pick<Store, "read">;
  readonly #clock: Pick<Clock, "monotonicMs">;
  /** Reasons, by subject. */
  #known: Promise<ReadonlyMap<string, string>> | undefined;
  #askedMs = 0;

  constructor({ store, clock }: { store: Pick<Store, "read">; clock: Pick<Clock, "monotonicMs"> }) {
    this.#store = store;
    this.#clock = clock;
  }

  /** Why somebody is; undefined for all others. Throws what the database says when it cannot be asked. */
  async why(subject: string): Promise<PitwallError | undefined> {
    const reason = (await this.#all()).get(subject);
    return reason === undefined ? undefined : lockedOut(reason);
  }

  /** Those of the subjects who are not. */
  async free(subjects: readonly string[]): Promise<ReadonlySet<string>> {
    const locked = await this.#all();
    return new Set(subjects.filter((subject) => !locked.has(subject)));
  }

  #all(): Promise<ReadonlyMap<string, string>> {
    const nowMs = this.#clock.monotonicMs();
    if (this.#known && nowMs - this.#askedMs < freshMs) return this.#known;
    const asked = this.#read();
    this.#askedMs = nowMs;
    this.#known = asked;
    // What could not be found out is asked again by the next call.
    asked.catch(() => {
      if (this.#known === asked) this.#known = undefined;
    });
    return asked;
  }

  async #read(): Promise<ReadonlyMap<string, string>> {
    const rows: { subject: string; reason: string }[] = await this.#store.read().execute("select subject, reason from user_lock");
    return new Map(rows.map(({ subject, reason }) => [subject, reason]));
  }
}
