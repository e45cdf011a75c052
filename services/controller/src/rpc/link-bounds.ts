// What one node may cost its controller, however it behaves.
import type { Inventory, VmReport } from "@pitwall/proto/pitwall/v1/link.ts";
import { sleepOrAbort, systemClock, Whole, type Clock } from "@pitwall/runtime";

const maxMessageBytes = 1024;
const maxReasonBytes = 64;
const maxHostKeyBytes = 1024;
const uuidLength = 36;
/** That a node may say that it has. */
const mostVms = 20_000;
/** All VMs of a full node may come up at once; more than that is read slowly, and HTTP/2 makes the node wait. */
const burst = 2_000;
const perSecond = 100;
/** Reports of one node that were read and not taken yet: some hundred bytes each, 2 KiB at most. */
const backlogLimit = 256;
/** Of them, so many are taken together. */
const takenAtOnce = 32;

/**
 * A report whose words can be kept: those that are too long lose their ends, and a zero byte, which no database keeps, is shown. Some of
 * the words are the guest's: a report that could not be kept would end the link of a whole node. An id that is none is nobody's.
 */
export function bounded(report: VmReport): VmReport {
  return {
    ...report,
    vmId: report.vmId.length > uuidLength ? "" : report.vmId,
    message: cut(report.message, maxMessageBytes),
    reason: cut(report.reason, maxReasonBytes),
    sshHostKey: cut(report.sshHostKey, maxHostKeyBytes),
  };
}

export function boundedInventory({ vms, complete }: Inventory): Inventory {
  return { vms: vms.map(bounded), complete };
}

/** What a session begins with: in the hello, or in parts of which it holds the first. Only when all of them have come is it complete. */
export class FirstInventory {
  readonly #parts = new Whole<VmReport>(mostVms);
  readonly #whole = Promise.withResolvers<Inventory>();
  #isWhole = false;

  /** Throws `invalid` for what is no first part. */
  constructor(first: Inventory = { vms: [], complete: false }) {
    this.#add(first);
  }

  /** Never, if the node does not say the rest. */
  get whole(): Promise<Inventory> {
    return this.#whole.promise;
  }

  /** Whether a later message is a part of it. Throws `invalid` when one is missing before it, or there are too many VMs. */
  takes(later: Inventory): boolean {
    if (this.#isWhole || later.partCount === undefined) return false;
    this.#add(later);
    return true;
  }

  #add(some: Inventory): void {
    const { vms, complete } = boundedInventory(some);
    const all = this.#parts.add(vms, some);
    if (!all) return;
    this.#isWhole = true;
    this.#whole.resolve({ vms: [...all], complete: complete || some.partCount !== undefined });
  }
}

/** At most so many bytes of UTF-8, no half of a character, and no zero byte. */
export function cut(words: string, maxBytes: number): string {
  const text = words.replaceAll("\0", "\u2400");
  if (text.length * 3 <= maxBytes) return text;
  const bytes = new TextEncoder().encode(text);
  return bytes.length <= maxBytes ? text : new TextDecoder().decode(bytes.subarray(0, maxBytes), { stream: true });
}

/** Says how long to wait before the next message is read: a bucket that fills with time. */
export class Pace {
  readonly #clock: Clock;
  #left = burst;
  #lastMs: number;

  constructor(clock: Clock = systemClock) {
    this.#clock = clock;
    this.#lastMs = clock.monotonicMs();
  }

  /** Takes one message; the milliseconds until there is room for it. 0: go on. */
  take(): number {
    const nowMs = this.#clock.monotonicMs();
    this.#left = Math.min(burst, this.#left + ((nowMs - this.#lastMs) / 1000) * perSecond) - 1;
    this.#lastMs = nowMs;
    return this.#left >= 0 ? 0 : Math.ceil((-this.#left / perSecond) * 1000);
  }
}

export interface BacklogOptions {
  /** Nothing is taken before. */
  readonly ready: Promise<void>;
  /** Takes what was added in a row, and may say of so many, before it is done with all, that they are taken. */
  readonly take: (reports: readonly VmReport[], onTaken: (count: number) => void) => Promise<void>;
  /** Something could not be taken; what came after it is not taken either. */
  readonly onFailure: (error: unknown) => void;
  /** Nothing more is taken once it aborts. */
  readonly signal: AbortSignal;
  readonly clock?: Clock | undefined;
}

/**
 * What a session's node has said of its VMs and nobody has taken yet, in its order: it is taken at the pace that is allowed, what has come
 * meanwhile together, while its reader goes on with heartbeats. Who brings more than there is room for waits until something is taken.
 */
export class Backlog {
  readonly #options: BacklogOptions;
  readonly #pace: Pace;
  readonly #waiting: VmReport[] = [];
  #isTaking: Promise<void> | undefined;
  /** Of those that are being taken, how many still are. */
  #inHand = 0;
  #hasFailed = false;
  #taken = Promise.withResolvers<void>();

  constructor(options: BacklogOptions) {
    this.#options = options;
    this.#pace = new Pace(options.clock);
  }

  /** Resolves when there is room for more. */
  async add(report: VmReport): Promise<void> {
    this.#waiting.push(report);
    this.#isTaking ??= this.#takeAll();
    while (this.#waiting.length + this.#inHand >= backlogLimit) await this.#taken.promise;
  }

  /** Resolves when all that was added is taken, or will not be. */
  async done(): Promise<void> {
    await this.#isTaking;
  }

  async #takeAll(): Promise<void> {
    const { ready, signal } = this.#options;
    await ready;
    while (this.#waiting.length > 0) {
      const some = this.#waiting.splice(0, takenAtOnce);
      this.#inHand = some.length;
      if (!this.#hasFailed && !signal.aborted) await this.#take(some);
      this.#makeRoom(this.#inHand);
    }
    this.#isTaking = undefined;
  }

  #makeRoom(count: number): void {
    this.#inHand -= Math.min(count, this.#inHand);
    this.#taken.resolve();
    this.#taken = Promise.withResolvers();
  }

  async #take(reports: readonly VmReport[]): Promise<void> {
    const { take, signal, clock, onFailure } = this.#options;
    try {
      await take(reports, (count) => this.#makeRoom(count));
      const waitMs = Math.max(...reports.map(() => this.#pace.take()));
      if (waitMs > 0) await sleepOrAbort(waitMs, signal, clock);
    } catch (error) {
      this.#hasFailed = true;
      onFailure(error);
    }
  }
}
