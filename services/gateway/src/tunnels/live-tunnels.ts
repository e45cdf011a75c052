// Open ways into VMs: a controller is asked again and again whether those who came may still be there, so that a way ends within seconds of
// a key, a token or a role that is taken away, and of somebody's word that it shall. What no controller answers ends nothing for some minutes:
// a controller may be started anew. A gateway that reaches none for longer knows of no revocation since, and ends all ways; it opens none
// without a controller anyhow.
//
// State: the streams that are open, by who came for what (those that came alike are asked for once), with when a controller last let them,
// and by their session.
import type { Duplex } from "node:stream";
import type { CheckedTunnel } from "@pitwall/proto/pitwall/v1/access.ts";
import { PitwallError, sleepOrAbort, type Log } from "@pitwall/runtime";
import { ClientError, Status } from "nice-grpc";
import type { AccessClient } from "../controller-link.ts";

/** From one round's begin to the next one's, unless a round takes longer. */
const everyMs = 2_000;
const leastPauseMs = 500;
const limitMs = 5_000;
/** Of one question: a few small ones at once are answered sooner than a large one, and one that fails says nothing of few. */
const maxAtOnce = 100;
const questionsAtOnce = 4;

interface Alike {
  readonly checked: CheckedTunnel;
  readonly streams: Set<Duplex>;
  /** By performance.now(). */
  letInMs: number;
}

export interface LiveTunnelsParts {
  readonly staleMs: number;
  readonly log: Log;
}

/** Disposing it asks no more, and ends nothing. */
export class LiveTunnels implements AsyncDisposable {
  readonly #access: () => Pick<AccessClient, "checkTunnels">;
  readonly #staleMs: number;
  readonly #log: Log;
  readonly #alike = new Map<string, Alike>();
  readonly #bySession = new Map<string, Duplex>();
  readonly #stop = new AbortController();
  #asking: Promise<void> | undefined;

  constructor(access: () => Pick<AccessClient, "checkTunnels">, { staleMs, log }: LiveTunnelsParts) {
    this.#access = access;
    this.#staleMs = staleMs;
    this.#log = log;
  }

  /**
   * Destroys the stream when its caller may no longer have it, or somebody ends its session, unless it has closed by then. `sessionId` is
   * empty for what the controller has no session of.
   */
  follow(checked: CheckedTunnel, stream: Duplex, sessionId = ""): void {
    const credential = checked.caller?.credential;
    const { vm, method, host, port, unrecordedSsh, logins } = checked;
    const key = JSON.stringify([credential?.$case, credential?.value, vm, method, host, port, unrecordedSsh, logins]);
    const alike = this.#alike.get(key) ?? { checked, streams: new Set(), letInMs: 0 };
    alike.letInMs = performance.now();
    alike.streams.add(stream);
    if (sessionId !== "") this.#bySession.set(sessionId, stream);
    this.#alike.set(key, alike);
    stream.once("close", () => {
      this.#bySession.delete(sessionId);
      alike.streams.delete(stream);
      if (alike.streams.size === 0 && this.#alike.get(key) === alike) this.#alike.delete(key);
    });
    this.#asking ??= this.#ask();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#asking;
  }

  /** Goes on while there are any. */
  async #ask(): Promise<void> {
    const { signal } = this.#stop;
    let tookMs = 0;
    while (this.#alike.size > 0 && !signal.aborted) {
      await sleepOrAbort(Math.max(everyMs - tookMs, leastPauseMs), signal);
      const begunMs = performance.now();
      await this.#askAll([...this.#alike.values()], signal);
      tookMs = performance.now() - begunMs;
    }
    this.#asking = undefined;
  }

  async #askAll(all: readonly Alike[], signal: AbortSignal): Promise<void> {
    let next = 0;
    const askNext = async (): Promise<void> => {
      while (next < all.length && !signal.aborted) {
        const at = next;
        next += maxAtOnce;
        await this.#endLost(all.slice(at, next));
      }
    };
    await Promise.all(Array.from({ length: questionsAtOnce }, askNext));
  }

  async #endLost(some: readonly Alike[]): Promise<void> {
    const askedMs = performance.now();
    const isLet = (unknown: ReadonlySet<number>): void => {
      for (const [at, alike] of some.entries()) if (!unknown.has(at)) alike.letInMs = Math.max(alike.letInMs, askedMs);
    };
    const endStale = (): void => {
      for (const alike of some) if (performance.now() - alike.letInMs >= this.#staleMs) end(alike, stale());
    };
    try {
      const tunnels = some.map(({ checked }) => checked);
      const { lost, endedSessions, unknown } = await this.#access().checkTunnels({ tunnels }, { timeoutMs: limitMs });
      isLet(new Set(unknown));
      if (unknown.length > 0) endStale();
      for (const at of lost) end(some[at], new PitwallError("denied", "you may no longer reach this VM", { reason: "ACCESS_REVOKED" }));
      for (const id of endedSessions)
        this.#bySession.get(id)?.destroy(new PitwallError("denied", "somebody has ended this session", { reason: "SESSION_ENDED" }));
    } catch (error) {
      // A controller of the version before knows of no such question.
      if (error instanceof ClientError && error.code === Status.UNIMPLEMENTED) return isLet(new Set());
      this.#log.warn("no controller says whether open ways into VMs may stay", { error });
      endStale();
    }
  }
}

function end(alike: Alike | undefined, why: PitwallError): void {
  for (const stream of alike?.streams ?? []) stream.destroy(why);
}

function stale(): PitwallError {
  return new PitwallError("unavailable", "no controller has said for long that you may reach this VM; try again", {
    reason: "ACCESS_STALE",
  });
}
