// Connections that are ended for what they send, and the sources they come from: after a few of them no more are let in for a while.
import { constants, type ServerHttp2Session } from "node:http2";
import { Penalties } from "../penalties.ts";
import { sourceOf } from "../source.ts";
import type { Refusal, WebLimits } from "./limits.ts";

/** A connection may ping and change its settings so often at once, and once in so many milliseconds thereafter. */
export const controlBurst = 100;
const controlEveryMs = 500;
/** Calls of a connection that came in crumbs: the next one ends it. */
const mayCrumble = 3;

/** Takes one of a connection's questions of the protocol's own; false: that was one too many. */
export function controlBudget(): () => boolean {
  let spent = 0;
  let at = performance.now();
  return () => {
    const now = performance.now();
    spent = Math.max(0, spent - (now - at) / controlEveryMs) + 1;
    at = now;
    return spent <= controlBurst;
  };
}

export class Floods {
  readonly #exempt: WebLimits["penaltyExempt"];
  readonly #onRefused: (why: Refusal) => void;
  readonly #penalties = new Penalties(() => performance.now());

  constructor({ penaltyExempt }: Pick<WebLimits, "penaltyExempt">, onRefused: (why: Refusal) => void) {
    this.#exempt = penaltyExempt;
    this.#onRefused = onRefused;
  }

  /** Whether no connection from there is taken now. */
  isRefused(address: string | undefined): boolean {
    if (address === undefined || !this.#penalties.isRefused(sourceOf(address))) return false;
    this.#onRefused("penalty");
    return true;
  }

  /** Ends it once it does little but ask for answers of the protocol's own, or its calls come in crumbs. Returns what is told of each such call. */
  watch(session: ServerHttp2Session): () => void {
    const { remoteAddress } = session.socket; // it is gone once the session was destroyed
    const end = (): void => {
      this.#charge(remoteAddress);
      // Undefined would make Node say NO_ERROR, and an error would be told as the connection's own.
      session.destroy(null as unknown as undefined, constants.NGHTTP2_ENHANCE_YOUR_CALM);
    };
    const isWithin = controlBudget();
    const count = (why: Refusal) => (): void => {
      if (isWithin() || session.destroyed) return;
      this.#onRefused(why);
      end();
    };
    session.on("ping", count("pings")).on("remoteSettings", count("settings"));
    // What the library ends itself: resets, invalid frames, CONTINUATION without end. Connections that merely break have other codes.
    session.on("error", ({ code }: NodeJS.ErrnoException) => {
      if (code === "ERR_HTTP2_ERROR" || code === "ERR_HTTP2_TOO_MANY_INVALID_FRAMES") this.#charge(remoteAddress);
    });
    let crumbled = 0;
    return () => {
      if (++crumbled > mayCrumble && !session.destroyed) setImmediate(end); // the call that says so is about to be answered
    };
  }

  /** A WebSocket from there pings without end. */
  pinged(address: string | undefined): void {
    this.#onRefused("pings");
    this.#charge(address);
  }

  #charge(address: string | undefined): void {
    if (address !== undefined && !this.#exempt.has(address)) this.#penalties.charge(sourceOf(address), "flood");
  }
}
