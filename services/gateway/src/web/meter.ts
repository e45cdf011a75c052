// What a call sends up, by the lengths that gRPC's frames say: how long its messages are, how long all of it is, and whether it comes in
// crumbs, of which each costs whoever gathers them more than it holds.
import { PitwallError } from "@pitwall/runtime";
import type { Refusal, WebLimits } from "./limits.ts";

const prefixBytes = 5;
/** A piece that is shorter, and ends no message, is a crumb. */
export const crumbBytes = 256;
/** Beyond one for each so many bytes. */
const mayBeCrumbs = 200;

export class Meter {
  readonly #limits: Pick<WebLimits, "messageBytes" | "callBytes">;
  readonly #onRefused: (why: Refusal) => void;
  #all = 0;
  #crumbs = 0;
  /** Of the message that is coming. */
  #rest = 0;
  #prefix = 0;
  #length = 0;

  constructor(limits: Pick<WebLimits, "messageBytes" | "callBytes">, onRefused: (why: Refusal) => void) {
    this.#limits = limits;
    this.#onRefused = onRefused;
  }

  /** Whether the piece is a crumb, with which nobody can do anything yet. Throws `exhausted`. */
  take(piece: Buffer): boolean {
    this.#all += piece.length;
    if (this.#all > this.#limits.callBytes)
      throw this.#refuse("call_bytes", "CALL_TOO_LONG", `a call may send ${this.#limits.callBytes} bytes`);
    let ends = 0;
    for (let at = 0; at < piece.length;) {
      if (this.#rest > 0) {
        const now = Math.min(this.#rest, piece.length - at);
        this.#rest -= now;
        at += now;
      } else {
        // The first byte of the five are flags.
        if (this.#prefix > 0) this.#length = this.#length * 256 + (piece[at] ?? 0);
        at++;
        if (++this.#prefix < prefixBytes) continue;
        this.#rest = this.#length;
        if (this.#length > this.#limits.messageBytes)
          throw this.#refuse(
            "message_bytes",
            "MESSAGE_TOO_LONG",
            `a message may have ${this.#limits.messageBytes} bytes, and this one has ${this.#length}`,
          );
        this.#prefix = 0;
        this.#length = 0;
      }
      if (this.#rest === 0 && this.#prefix === 0) ends++;
    }
    if (piece.length >= crumbBytes || ends > 0) return false;
    if (++this.#crumbs > mayBeCrumbs + this.#all / crumbBytes)
      throw this.#refuse("small_frames", "SMALL_FRAMES", "the call comes in pieces that are too small");
    return true;
  }

  #refuse(why: Refusal, reason: string, words: string): PitwallError {
    this.#onRefused(why);
    return new PitwallError("exhausted", words, { reason });
  }
}
