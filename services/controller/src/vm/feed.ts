// The feed of VM changes: follows the events in the database, whichever controller wrote them, and hands them on in their order.
//
// It looks when this controller has committed a change, when another one says that it has, and every other second in any case.
import { Vm } from "@pitwall/proto/pitwall/v1/vm.ts";
import { Outbox, PitwallError, systemClock, type Clock, type Log } from "@pitwall/runtime";
import type { Signer } from "../mutation/signer.ts";
import type { Notices } from "../store/notices.ts";
import type { Store } from "../store/store.ts";
import { horizonOfReads, isBehind, isRemembered, lastSettled, readSettled, type EventPosition, type VmEvent } from "../store/vm-events.ts";

const pollMs = 2_000;
/** How soon to look again for what a transaction that still runs holds up. */
const unsettledMs = 5;
const batchSize = 1_000;
const maxWaiting = 10_000;
const channel = "vm_event";
const tokenPurpose = "vm-events";

export interface VmChange {
  readonly position: EventPosition;
  readonly projectId: string;
  readonly nodeId: string;
  readonly tellNode: boolean;
  /** Grows with each change of one VM. */
  readonly revision: bigint;
  readonly vm: Vm;
}

/** What a watch of one VM is of, whatever becomes of the VM and its name. */
export interface Watched {
  readonly id: string;
  readonly projectId: string;
  /** As it was asked for. */
  readonly reference: string;
}

/** Where a watch stands, and what it is of, unless it is of projects. */
export interface ResumePoint {
  readonly position: EventPosition;
  readonly of: Watched | undefined;
}

/** Of one who waits until all below the horizon has been handed on. */
interface Arrival {
  readonly horizon: bigint;
  /** Only a later one counts: a crash of the server may lie between an earlier one and the horizon. */
  readonly read: number;
  readonly resolve: () => void;
}

interface Parts {
  readonly store: Store;
  readonly notices: Notices;
  readonly signer: Signer;
  readonly log: Log;
  readonly clock?: Clock;
}

/** Disposing it ends all who listen. */
export class Feed implements AsyncDisposable {
  readonly #store: Store;
  readonly #notices: Notices;
  readonly #signer: Signer;
  readonly #log: Log;
  readonly #clock: Clock;
  readonly #listeners = new Set<Pick<Outbox<VmChange>, "push" | "close" | "isOpen">>();
  readonly #arrivals = new Set<Arrival>();
  readonly #stop = new AbortController();
  readonly #stopListening: () => void;
  readonly #running: Promise<void>;
  #position: EventPosition;
  #reads = 0;
  #wake: (() => void) | undefined;
  #isWoken = false;

  private constructor({ store, notices, signer, log, clock = systemClock }: Parts, position: EventPosition) {
    this.#store = store;
    this.#notices = notices;
    this.#signer = signer;
    this.#log = log;
    this.#clock = clock;
    this.#position = position;
    this.#stopListening = notices.listen(channel, (isOwn) => isOwn || this.#look()); // its own commits it has looked at
    this.#running = this.#follow();
  }

  /** Begins with what happens from now on. */
  static async open(parts: Parts): Promise<Feed> {
    return new Feed(parts, await lastSettled(parts.store));
  }

  /** This controller has committed a change. */
  committed(): void {
    this.#look();
    this.#notices.send(channel);
  }

  /** Changes from now on, and what else the caller puts among them. Iterate it, or close it. */
  subscribe<T = never>(): Outbox<VmChange | T> {
    const outbox = new Outbox<VmChange | T>(maxWaiting);
    this.#listeners.add(outbox);
    for (const listener of this.#listeners) if (!listener.isOpen) this.#listeners.delete(listener);
    if (this.#stop.signal.aborted) outbox.close();
    return outbox;
  }

  /** All changes up to here have been handed on. */
  get position(): EventPosition {
    return this.#position;
  }

  /** Resolves once everything that can have been read before this call has been handed on; false: the signal aborts, or the feed ends, before. */
  async caughtUp(signal: AbortSignal): Promise<boolean> {
    const horizon = await horizonOfReads(this.#store);
    const isOver = (): boolean => signal.aborted || this.#stop.signal.aborted;
    if (isOver()) return false;
    const { promise, resolve } = Promise.withResolvers<void>();
    const arrival = { horizon, read: this.#reads, resolve: () => resolve() };
    this.#arrivals.add(arrival);
    signal.addEventListener("abort", arrival.resolve, { once: true });
    this.#look();
    await promise;
    this.#arrivals.delete(arrival);
    signal.removeEventListener("abort", arrival.resolve);
    return !isOver();
  }

  token({ txid, seq }: EventPosition, of?: Watched): string {
    const watched = of ? [of.id, of.projectId, Buffer.from(of.reference).toString("base64url")] : [];
    return this.#signer.sign(tokenPurpose, [txid, seq, ...watched].join("."));
  }

  /** Where the token stands. Throws `invalid` for one that no controller of this installation gave. */
  read(token: string): ResumePoint {
    const payload = this.#signer.verify(tokenPurpose, token);
    const [txid, seq, id, projectId, reference] = payload?.split(".") ?? [];
    if (txid === undefined || seq === undefined)
      throw new PitwallError("invalid", "resume_token: is not a token of this installation", {
        reason: "INVALID_FIELD",
        field: "resume_token",
      });
    const position = { txid: BigInt(txid), seq: BigInt(seq) };
    if (id === undefined || projectId === undefined || reference === undefined) return { position, of: undefined };
    return { position, of: { id, projectId, reference: Buffer.from(reference, "base64url").toString() } };
  }

  /** What happened behind `from` up to `to`. Throws `out-of-range` when some of it has been forgotten. */
  async *between(from: EventPosition, to: EventPosition): AsyncGenerator<VmChange> {
    for (let at = from, hasMore = true; hasMore && isBehind(at, to);) {
      const settled = await readSettled(this.#store, at, batchSize);
      if (!(await isRemembered(this.#store, at)))
        throw new PitwallError("out-of-range", "resume_token: is too old, or of a database that is gone; begin anew without it", {
          reason: "RESUME_TOKEN_STALE",
          field: "resume_token",
        });
      for (const event of settled.events) if (!isBehind(to, event.position)) yield toChange(event);
      at = settled.position;
      hasMore = settled.hasMore;
    }
  }

  #look(): void {
    this.#isWoken = true;
    this.#wake?.();
  }

  async #follow(): Promise<void> {
    while (!this.#stop.signal.aborted) {
      this.#isWoken = false;
      let waitMs = pollMs;
      try {
        const read = ++this.#reads;
        const { events, position, horizon, hasMore, hasUnsettled } = await readSettled(this.#store, this.#position, batchSize);
        for (const change of events.map(toChange)) for (const listener of this.#listeners) listener.push(change);
        this.#position = position;
        if (hasMore) continue;
        for (const arrival of this.#arrivals) if (read > arrival.read && horizon >= arrival.horizon) this.#arrive(arrival);
        // Somebody waits to catch up, or an event to be settled: no commit need ever tell that it can go on.
        if (hasUnsettled || this.#arrivals.size > 0) waitMs = unsettledMs;
      } catch (error) {
        if (!this.#stop.signal.aborted) this.#log.warn("events of VMs could not be read", { error });
      }
      await this.#rest(waitMs);
    }
  }

  #arrive(arrival: Arrival): void {
    this.#arrivals.delete(arrival);
    arrival.resolve();
  }

  /** Until somebody asks to look, or the time is over. */
  async #rest(ms: number): Promise<void> {
    if (this.#isWoken || this.#stop.signal.aborted) return;
    await new Promise<void>((resolve) => {
      const timer = this.#clock.after(ms, resolve);
      this.#wake = () => {
        timer[Symbol.dispose]();
        resolve();
      };
    });
    this.#wake = undefined;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopListening();
    this.#stop.abort();
    this.#look();
    await this.#running;
    for (const listener of this.#listeners) listener.close();
    for (const arrival of this.#arrivals) this.#arrive(arrival);
  }
}

function toChange({ position, projectId, nodeId, tellNode, revision, body }: VmEvent): VmChange {
  return { position, projectId, nodeId, tellNode, revision, vm: Vm.decode(body) };
}
