// What one node may cost its controller, however it behaves.
import type { VmReport } from "@pitwall/proto/pitwall/v1/link.ts";
import { systemClock, type Clock } from "@pitwall/runtime";

const maxMessageBytes = 1024;
const maxReasonBytes = 64;
const maxHostKeyBytes = 1024;
/** All VMs of a full node may come up at once; more than that is read slowly, and HTTP/2 makes the node wait. */
const burst = 2_000;
const perSecond = 100;

/**
 * A report whose words can be kept: those that are too long lose their ends, and a zero byte, which no database keeps, is shown. Some of
 * the words are the guest's: a report that could not be kept would end the link of a whole node.
 */
export function bounded(report: VmReport): VmReport {
  return {
    ...report,
    message: cut(report.message, maxMessageBytes),
    reason: cut(report.reason, maxReasonBytes),
    sshHostKey: cut(report.sshHostKey, maxHostKeyBytes),
  };
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
