// The feed of VM changes: a short memory of what was said, and everybody who listens now.
import { randomBytes } from "node:crypto";
import type { Vm } from "@pitwall/proto/pitwall/v1/vm.ts";
import { Outbox } from "@pitwall/runtime";

const memory = 4096;
const maxWaiting = 10_000;

export interface Change {
  readonly revision: bigint;
  readonly projectId: string;
  readonly vm: Vm;
}

/** Single process: `publish` is called in the order of revisions. */
export class Feed {
  /** Tokens of another incarnation are not understood: its memory is gone. */
  readonly #incarnation = randomBytes(6).toString("base64url");
  readonly #recent: Change[] = [];
  readonly #listeners = new Set<Outbox<Change>>();
  #revision = 0n;
  #forgotten = 0n;

  /** `revision` is the database's last one. */
  constructor(revision: bigint) {
    this.#revision = revision;
    this.#forgotten = revision;
  }

  publish(change: Change): void {
    this.#revision = change.revision;
    this.#recent.push(change);
    if (this.#recent.length > memory) this.#forgotten = this.#recent.shift()?.revision ?? this.#forgotten;
    for (const listener of this.#listeners) listener.push(change);
  }

  /** Changes from now on. Iterate it, or close it. */
  subscribe(): Outbox<Change> {
    const outbox = new Outbox<Change>(maxWaiting);
    this.#listeners.add(outbox);
    for (const listener of this.#listeners) if (!listener.isOpen) this.#listeners.delete(listener);
    return outbox;
  }

  token(revision: bigint): string {
    return `${this.#incarnation}.${revision}`;
  }

  /** The last revision that was published. */
  get revision(): bigint {
    return this.#revision;
  }

  /** What was published after a token; undefined when that is no longer known, and a reader must begin anew. */
  since(token: string): readonly Change[] | undefined {
    const [incarnation, revision = ""] = token.split(".");
    if (incarnation !== this.#incarnation || !/^\d{1,18}$/.test(revision)) return undefined;
    const after = BigInt(revision);
    return after < this.#forgotten ? undefined : this.#recent.filter((change) => change.revision > after);
  }

  /** Ends all subscriptions. */
  close(): void {
    for (const listener of this.#listeners) listener.close();
  }
}
