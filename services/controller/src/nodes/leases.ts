// Renews the leases of the nodes whose heartbeats came in, all of them in one statement per tick, and only then acknowledges: what a node
// is told of, the database knows. Also ends the links of silent nodes.
//
// Silence is measured while this process was awake. A pause of its own, however long, makes nobody silent: what came meanwhile is read first.
import { sleepOrAbort, systemClock, type Clock, type Failpoints, type Log } from "@pitwall/runtime";
import type { Store } from "../store/store.ts";
import { endSession, renewLeases } from "./session-rows.ts";
import type { NodeNews } from "./node-news.ts";
import type { Session } from "./sessions.ts";

const tickMs = 250;
/** How often the database hears from a controller without nodes. */
const beatMs = 1_000;
/** Of heartbeats: two may be late by as much as an agent's worst pause, 1 s. */
const silenceInHeartbeats = 2.5;

export interface LeaseParts {
  readonly store: Store;
  readonly news: Pick<NodeNews, "tell">;
  readonly heartbeatMs: number;
  readonly leaseMs: number;
  /** Tells the database that this controller is there. */
  readonly beat: () => Promise<void>;
  readonly failpoints: Failpoints;
  readonly log: Log;
  readonly clock?: Clock;
}

interface Heard {
  awakeMs: number;
  /** Of the latest heartbeat that is not acknowledged. */
  sequence: bigint | undefined;
}

export class Leases {
  readonly #parts: LeaseParts;
  readonly #clock: Clock;
  readonly #heard = new Map<Session, Heard>();
  #awakeMs = 0;
  #renewedMs: number;
  #beatMs = -beatMs;
  #steadySinceMs: number;

  constructor(parts: LeaseParts) {
    this.#parts = parts;
    this.#clock = parts.clock ?? systemClock;
    this.#renewedMs = this.#steadySinceMs = this.#clock.monotonicMs();
  }

  /** For how long this controller has been awake, and heard by the database, without a break that could cost a node its lease. */
  get steadyForMs(): number {
    const nowMs = this.#clock.monotonicMs();
    return this.#isAway(nowMs) ? 0 : nowMs - this.#steadySinceMs;
  }

  /** A session began; it is heard of from now on. */
  begin(session: Session): void {
    this.#heard.set(session, { awakeMs: this.#awakeMs, sequence: undefined });
    this.#parts.news.tell();
  }

  /** A heartbeat: acknowledged once the lease is renewed. */
  heard(session: Session, sequence: bigint): void {
    const heard = this.#heard.get(session);
    if (!heard) return;
    heard.awakeMs = this.#awakeMs;
    heard.sequence = sequence;
  }

  /** The session is over. Resolves when other controllers can see that. */
  async end(session: Session): Promise<void> {
    this.#heard.delete(session);
    await endSession(this.#parts.store, session, session.endReason);
    this.#parts.news.tell();
  }

  /** Until the signal aborts. Never rejects. */
  async run(signal: AbortSignal): Promise<void> {
    let lastMs = this.#clock.monotonicMs();
    while (!signal.aborted) {
      await sleepOrAbort(tickMs, signal, this.#clock);
      const nowMs = this.#clock.monotonicMs();
      this.#awakeMs += Math.min(nowMs - lastMs, 2 * tickMs);
      lastMs = nowMs;
      this.#endSilent();
      await this.#renew(nowMs).catch((error: unknown) => this.#parts.log.warn("leases could not be renewed", { error }));
    }
  }

  /** Since the last word with the database so much time has gone by that nodes may have lost leases by it. */
  #isAway(nowMs: number): boolean {
    return nowMs - this.#renewedMs > this.#parts.leaseMs / 2;
  }

  #endSilent(): void {
    const limitMs = silenceInHeartbeats * this.#parts.heartbeatMs;
    for (const [session, { awakeMs }] of this.#heard) {
      if (this.#awakeMs - awakeMs <= limitMs || !session.outbox.isOpen) continue;
      this.#parts.log.warn("a node is silent", { node: session.nodeId, session: session.epoch });
      session.endReason = "silent";
      session.outbox.close();
      // The stream may hang on a connection that takes nothing any more: its state must not.
      void this.end(session).catch((error: unknown) => this.#parts.log.warn("that a node is silent could not be written", { error }));
    }
  }

  async #renew(nowMs: number): Promise<void> {
    const { store, leaseMs, beat, failpoints } = this.#parts;
    // After a pause, this controller's or the database's, leases have run out that nodes did renew: all that are linked are given a whole one.
    const wasAway = this.#isAway(nowMs);
    if (wasAway) this.#steadySinceMs = nowMs;
    const due = [...this.#heard].filter(([session, { sequence }]) => (sequence !== undefined || wasAway) && session.outbox.isOpen);
    if (due.length === 0 && nowMs - this.#beatMs < beatMs) return;
    if (nowMs - this.#beatMs >= beatMs) {
      await beat();
      this.#beatMs = nowMs;
    }
    if (due.length > 0) {
      const sequences = due.map(([, heard]) => heard.sequence);
      for (const [, heard] of due) heard.sequence = undefined;
      await failpoints.at("lease.renew.sent");
      const current = await renewLeases(
        store,
        due.map(([session]) => session),
        leaseMs,
      );
      await failpoints.at("lease.renew.ok");
      due.forEach(([session], index) => {
        const sequence = sequences[index];
        if (!current.has(session.nodeId)) session.outbox.close();
        else if (sequence !== undefined) this.#acknowledge(session, sequence);
      });
    }
    this.#renewedMs = this.#clock.monotonicMs();
  }

  #acknowledge({ nodeId, outbox }: Session, sequence: bigint): void {
    const sending = this.#parts.failpoints.sending("lease.ack.sent", nodeId);
    if (sending !== "never") outbox.push({ message: { $case: "heartbeatAck", value: { sequence } } });
    if (sending === "twice") outbox.push({ message: { $case: "heartbeatAck", value: { sequence } } });
  }
}
