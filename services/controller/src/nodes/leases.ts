// Renews the leases of the nodes whose heartbeats came in, all of them in one statement per tick, and only then acknowledges: what a node
// is told of, the database knows. Also ends the links of silent nodes.
//
// Silence is measured while this process was awake. A pause of its own, however long, makes nobody silent: what came meanwhile is read first.
// A node that sends pulses is silent when not a byte comes; heartbeats are then only for its lease, and may be rare.
import { pulseMs, sleepOrAbort, systemClock, type Clock, type Failpoints, type Log } from "@pitwall/runtime";
import type { Store } from "../store/store.ts";
import { gather } from "./gather.ts";
import { endSessions, renewLeases, type EndReason, type SessionKey } from "./session-rows.ts";
import type { NodeNews } from "./node-news.ts";
import type { Session } from "./sessions.ts";

const tickMs = 125;
/** A tick that is late by more was no tick: this process was not awake. */
const lateMs = 375;
/** Leases are renewed in every second one: what is written for all of them at once is not written more often. */
const ticksPerRenewal = 2;
/** Links that end together, as when their switch does, are one statement. */
const endsAtOnce = 500;
/** How often the database hears from a controller that has no lease to renew. */
const wordMs = 1_000;
/** How often it hears that this controller is there, for others that ask: a third of how long they believe it (roster.ts). */
const beatMs = 3_000;
/** Of heartbeats: two may be late by as much as an agent's worst pause, 1 s. */
const silenceInHeartbeats = 2.5;
/** One pulse may be late by as much. */
const silenceMs = pulseMs + 1_100;
/** docs/link.md: nodes that send pulses. */
const pulseCapability = 3;

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
  /** When it was heard last, in time that this process was awake. */
  awakeMs: number;
  /** Of a node that sends pulses: all that has come from it so far, as it is now and as it was when it was looked at last. */
  readonly received: (() => number) | undefined;
  receivedBytes: number;
  /** Of the latest heartbeat that is not acknowledged. */
  sequence: bigint | undefined;
}

export class Leases {
  readonly #parts: LeaseParts;
  readonly #clock: Clock;
  readonly #heard = new Map<Session, Heard>();
  readonly #writeEnd: (ended: SessionKey & { readonly reason: EndReason }) => Promise<void>;
  #awakeMs = 0;
  #renewedMs: number;
  #beatMs = -Infinity;
  /** When the database was last asked anything here. */
  #wordMs = -Infinity;
  #steadySinceMs: number;

  constructor(parts: LeaseParts) {
    this.#parts = parts;
    this.#clock = parts.clock ?? systemClock;
    this.#writeEnd = gather(async (ended) => {
      await endSessions(parts.store, ended);
      return ended.map(() => undefined);
    }, endsAtOnce);
    this.#renewedMs = this.#steadySinceMs = this.#clock.monotonicMs();
  }

  /** For how long this controller has been awake, and heard by the database whenever it asked, without a break that could cost a node its lease. */
  get steadyForMs(): number {
    const nowMs = this.#clock.monotonicMs();
    return this.#isAway(nowMs) ? 0 : nowMs - this.#steadySinceMs;
  }

  /** A session began; it is heard of from now on. `receivedBytes`: over its connection, if that can be known. */
  begin(session: Session, receivedBytes?: () => number): void {
    const received = session.capability >= pulseCapability ? receivedBytes : undefined;
    this.#heard.set(session, { awakeMs: this.#awakeMs, received, receivedBytes: 0, sequence: undefined });
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
    await this.#writeEnd({ nodeId: session.nodeId, epoch: session.epoch, reason: session.endReason });
    this.#parts.news.tell();
  }

  /** Until the signal aborts. Never rejects. */
  async run(signal: AbortSignal): Promise<void> {
    let lastMs = this.#clock.monotonicMs();
    for (let tick = 1; !signal.aborted; tick++) {
      await sleepOrAbort(tickMs, signal, this.#clock);
      const nowMs = this.#clock.monotonicMs();
      const wasAwake = nowMs - lastMs <= tickMs + lateMs;
      this.#awakeMs += wasAwake ? nowMs - lastMs : tickMs;
      lastMs = nowMs;
      if (wasAwake) this.#endSilent();
      if (tick % ticksPerRenewal === 0)
        await this.#renew(nowMs).catch((error: unknown) => {
          // However short that was, nodes that came here meanwhile were sent away, maybe to a controller that does not answer.
          this.#steadySinceMs = this.#clock.monotonicMs();
          this.#parts.log.warn("leases could not be renewed", { error });
        });
    }
  }

  /** Since the last word with the database so much time has gone by that nodes may have lost leases by it. */
  #isAway(nowMs: number): boolean {
    return nowMs - this.#renewedMs > this.#parts.leaseMs / 2;
  }

  #endSilent(): void {
    const withoutPulsesMs = silenceInHeartbeats * this.#parts.heartbeatMs;
    const withPulsesMs = Math.min(silenceMs, withoutPulsesMs);
    for (const [session, heard] of this.#heard) {
      const bytes = heard.received?.() ?? 0;
      if (bytes !== heard.receivedBytes) {
        heard.receivedBytes = bytes;
        heard.awakeMs = this.#awakeMs;
      }
      const limitMs = heard.received ? withPulsesMs : withoutPulsesMs;
      if (this.#awakeMs - heard.awakeMs <= limitMs || !session.outbox.isOpen) continue;
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
    const isBeatDue = nowMs - this.#beatMs >= beatMs || (due.length === 0 && nowMs - this.#wordMs >= wordMs);
    if (due.length === 0 && !isBeatDue) return;
    this.#wordMs = nowMs;
    if (isBeatDue) {
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
    // Ahead of what many VMs should be: the lease of them all must not wait for it.
    if (sending !== "never") outbox.pushAhead({ message: { $case: "heartbeatAck", value: { sequence } } });
    if (sending === "twice") outbox.pushAhead({ message: { $case: "heartbeatAck", value: { sequence } } });
  }
}
