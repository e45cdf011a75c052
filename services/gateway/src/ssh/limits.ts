// What one client of the SSH door may do: the settings, and the account of a connection that has logged in.
import type { Clock } from "@pitwall/runtime";
import type { Channel, ServerChannel } from "ssh2";
import { watchChannel } from "./windows.ts";

export interface SshLimits {
  /** In milliseconds, from the connection to the first request to log in. */
  readonly greetingMs: number;
  /** In milliseconds, from the connection to the login. */
  readonly loginMs: number;
  /** Refused requests to log in, of one connection. */
  readonly tries: number;
  /** Connections that have not logged in: from when on some are dropped, and from when on one for each that comes. */
  readonly startups: { readonly from: number; readonly full: number };
  /** These are never refused for what they did: a balancer's, behind which everybody is. */
  readonly penaltyExempt: { has(address: string): boolean };
  /** Connections that one user has logged in with, by whatever keys. */
  readonly connectionsPerPrincipal: number;
  readonly sessions: number;
  /** Sessions and forwards. */
  readonly channels: number;
  /** In milliseconds without a byte in any channel; 0: for ever. */
  readonly idleMs: number;
  /** In milliseconds from the login; 0: for ever. */
  readonly durationMs: number;
}

export interface AccountParts {
  readonly limits: Pick<SshLimits, "sessions" | "channels" | "idleMs" | "durationMs">;
  readonly clock: Pick<Clock, "monotonicMs" | "after">;
  /** A limit is reached: the connection must end. */
  readonly end: (why: string) => void;
  /** The client sends more than it was granted. */
  readonly overran: () => void;
}

/** Disposing it stops its timers. */
export class Account implements Disposable {
  readonly #parts: AccountParts;
  #rest: Disposable | undefined;
  readonly #end: Disposable | undefined;
  readonly #shown = new Set<ServerChannel>();
  #sessions = 0;
  #forwards = 0;
  #movedMs: number;

  constructor(parts: AccountParts) {
    this.#parts = parts;
    const { limits, clock, end } = parts;
    this.#movedMs = clock.monotonicMs();
    if (limits.idleMs > 0) this.#lookForRest(limits.idleMs);
    if (limits.durationMs > 0)
      this.#end = clock.after(limits.durationMs, () => end(`the connection has lasted ${inWords(limits.durationMs)}, the most it may`));
  }

  /** False: it has as many as it may. */
  openSession(): boolean {
    const { sessions, channels } = this.#parts.limits;
    if (this.#sessions >= sessions || this.#sessions + this.#forwards >= channels) return false;
    this.#sessions++;
    return true;
  }

  closedSession(): void {
    this.#sessions--;
  }

  /** False: it has as many as it may. */
  openForward(): boolean {
    if (this.#sessions + this.#forwards >= this.#parts.limits.channels) return false;
    this.#forwards++;
    return true;
  }

  closedForward(): void {
    this.#forwards--;
  }

  /** What passes through it counts as activity, and its client must keep to its window. */
  watch(channel: Channel): void {
    const moved = (): void => void (this.#movedMs = this.#parts.clock.monotonicMs());
    watchChannel(channel, { moved, overran: this.#parts.overran });
  }

  /** One that has a user before it. */
  watchShown(channel: ServerChannel): void {
    this.watch(channel);
    this.#shown.add(channel);
    channel.once("close", () => this.#shown.delete(channel));
  }

  /** Ends what users look at, with a word about why. */
  endShown(why: string): void {
    for (const channel of this.#shown) {
      channel.stderr.write(`pitwall: ${why}\r\n`);
      channel.exit(255);
      channel.close();
    }
  }

  #lookForRest(afterMs: number): void {
    const { limits, clock, end } = this.#parts;
    this.#rest = clock.after(afterMs, () => {
      const restMs = clock.monotonicMs() - this.#movedMs;
      if (restMs >= limits.idleMs) end(`not a byte has passed for ${inWords(limits.idleMs)}`);
      else this.#lookForRest(limits.idleMs - restMs);
    });
  }

  [Symbol.dispose](): void {
    this.#rest?.[Symbol.dispose]();
    this.#end?.[Symbol.dispose]();
  }
}

function inWords(ms: number): string {
  return ms >= 60_000 ? `${Math.round(ms / 60_000)} min` : `${ms / 1_000} s`;
}
