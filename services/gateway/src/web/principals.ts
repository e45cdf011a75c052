// How much each principal has under way at this gateway, on whatever connections and from whatever addresses: calls, or connections of SSH.
import { PitwallError } from "@pitwall/runtime";
import type { Refusal } from "./limits.ts";

export class Principals {
  readonly #most: number;
  readonly #onRefused: (why: Refusal) => void;
  readonly #underway = new Map<string, number>();

  constructor(most: number, onRefused: (why: Refusal) => void) {
    this.#most = most;
    this.#onRefused = onRefused;
  }

  /** One more of theirs; returns what is called when it is over. Throws `exhausted`. `who` is {@link Admitted.principal}. */
  enter(who: string): () => void {
    const before = this.#underway.get(who) ?? 0;
    if (before >= this.#most) {
      this.#onRefused("calls_per_principal");
      throw new PitwallError(
        "exhausted",
        `you have ${before} calls under way at this gateway, and may have no more; end some, or try again later`,
        {
          reason: "TOO_MANY_CALLS",
        },
      );
    }
    this.#underway.set(who, before + 1);
    let isOver = false;
    return () => {
      if (isOver) return;
      isOver = true;
      const left = (this.#underway.get(who) ?? 1) - 1;
      if (left > 0) this.#underway.set(who, left);
      else this.#underway.delete(who);
    };
  }
}
