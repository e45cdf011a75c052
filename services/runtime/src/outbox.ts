// A bounded queue between producers that must not wait and one async consumer.
// States: open -> closed (drains, then ends) | failed (ends at once with the error). Only its owner closes or fails it.
// On overflow it fails itself: the session ends and the reconciler says it all again.
import { PitwallError } from "./errors.ts";
import { planted } from "./planted.ts";

/** Single consumer: iterate it once. */
export class Outbox<T> implements AsyncIterable<T> {
  readonly #items: T[] = [];
  /** Go before all others. */
  readonly #urgent: T[] = [];
  readonly #limit: number;
  #wake: (() => void) | undefined;
  #end: { readonly error?: unknown } | undefined;

  /** `limit` is the number of items that may wait. */
  constructor(limit: number) {
    this.#limit = limit;
  }

  get isOpen(): boolean {
    return this.#end === undefined;
  }

  /** How many items wait. */
  get length(): number {
    return this.#items.length + this.#urgent.length;
  }

  /** Queues an item. False when the outbox has ended, or ends now because it is full. */
  push(item: T): boolean {
    return this.#queue(this.#items, item);
  }

  /** The same, before all that was only pushed. */
  pushAhead(item: T): boolean {
    return this.#queue(this.#urgent, item);
  }

  #queue(items: T[], item: T): boolean {
    if (this.#end) return false;
    if (this.length >= this.#limit && !planted("unbounded-outbox")) {
      this.fail(new PitwallError("exhausted", `the peer does not read: ${this.#limit} messages are waiting`, { reason: "OUTBOX_FULL" }));
      return false;
    }
    items.push(item);
    this.#wake?.();
    return true;
  }

  /** Delivers what waits, then ends. */
  close(): void {
    this.#end ??= {};
    this.#wake?.();
  }

  /** Drops what waits and ends with the error. */
  fail(error: unknown): void {
    if (this.#end) return;
    this.#end = { error };
    this.#items.length = this.#urgent.length = 0;
    this.#wake?.();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<T, void, undefined> {
    try {
      for (;;) {
        if (this.length > 0) {
          yield (this.#urgent.length > 0 ? this.#urgent : this.#items).shift() as T; // length was checked
          continue;
        }
        if (this.#end) {
          if ("error" in this.#end) throw this.#end.error;
          return;
        }
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
        this.#wake = undefined;
      }
    } finally {
      this.close();
    }
  }
}
