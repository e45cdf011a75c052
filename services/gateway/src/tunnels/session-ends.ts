// Ends of ways into VMs, told to a controller until it has them in the audit log.
//
// State: ends that are not told yet, in memory. What is lost with this process the controller closes itself when the next one says that it
// has started; nothing is opened before that is answered.
import { randomUUID } from "node:crypto";
import type { TLSSocket } from "node:tls";
import type { EndedSession } from "@pitwall/proto/pitwall/v1/access.ts";
import { backoff, PitwallError, sleepOrAbort, systemClock, toDuration, type Log } from "@pitwall/runtime";
import { ClientError, Status } from "nice-grpc";
import type { AccessClient } from "../controller-link.ts";

const callLimitMs = 5_000;
/** For one who wants a way in, and at the end of this process. */
const patienceMs = 5_000;
const closeMs = 5;
const firstRetryMs = 100;
const maxRetryMs = 5_000;
const maxAtOnce = 500;
/** Beyond that the oldest are left to the next start; first those that came to nothing: anybody makes such ones while no controller answers. */
const maxWaiting = 100_000;
const maxDoubtful = 10_000;

export interface SessionOfTunnel {
  readonly id: string;
  /** From now on what goes through is counted, and the end of the socket is the session's. */
  carriedBy(socket: TLSSocket): void;
  /** It is over without that; ignored after it. */
  cameToNothing(): void;
  /** The controller knows of no such session. */
  dropped(): void;
}

/** Disposing it tells what is left, for a moment. */
export interface SessionEnds extends AsyncDisposable {
  /** Resolves when a controller knows that what an earlier process had open is over. Throws `unavailable` when that takes too long. */
  started(): Promise<void>;
  begin(): SessionOfTunnel;
  /** One that another process of this gateway began. */
  ended(session: EndedSession): void;
}

/** Sessions that are carried by sockets of this process. */
export interface CountedSessions {
  begin(): SessionOfTunnel;
  /** Resolves when what was carried has ended, or after a moment: sockets that are destroyed say so a little later. */
  settled(): Promise<void>;
}

/** `drop` is told the id of a session that never was. */
export function countSessions(end: (session: EndedSession) => void, drop: (sessionId: string) => void): CountedSessions {
  const carried = new Set<TLSSocket>();
  return {
    begin() {
      const id = randomUUID();
      let isCarried = false;
      return {
        id,
        carriedBy(socket) {
          isCarried = true;
          const since = systemClock.monotonicMs();
          // The line that the node began with has been read, and answered.
          const [read, written] = [socket.bytesRead - socket.readableLength, socket.bytesWritten];
          const close = (): void => {
            carried.delete(socket);
            end({
              sessionId: id,
              toVmBytes: BigInt(socket.bytesWritten - written),
              fromVmBytes: BigInt(socket.bytesRead - read),
              duration: toDuration(systemClock.monotonicMs() - since),
              lost: false,
            });
          };
          if (socket.closed) return close();
          carried.add(socket);
          socket.once("close", close);
        },
        cameToNothing() {
          if (!isCarried) end({ sessionId: id, toVmBytes: 0n, fromVmBytes: 0n, duration: undefined, lost: false });
        },
        dropped: () => drop(id),
      };
    },
    async settled() {
      const deadline = systemClock.monotonicMs() + patienceMs;
      while (carried.size > 0 && systemClock.monotonicMs() < deadline) await systemClock.sleep(closeMs);
    },
  };
}

export function openSessionEnds(access: () => Pick<AccessClient, "endSessions">, log: Log): SessionEnds {
  const waiting = new Map<string, EndedSession>();
  const doubtful = new Map<string, EndedSession>();
  const stop = new AbortController();
  const greeted = Promise.withResolvers<void>();
  let isGreeted = false;
  let wake: (() => void) | undefined;

  const left = (): number => waiting.size + doubtful.size;

  /** False: another try is needed. */
  async function tell(): Promise<boolean> {
    const ended = [...waiting.values(), ...doubtful.values()].slice(0, maxAtOnce);
    try {
      await access().endSessions({ ended, started: !isGreeted }, { timeoutMs: callLimitMs });
    } catch (error) {
      // A controller of the version before: its sessions have no ends.
      const isOlder = error instanceof ClientError && error.code === Status.UNIMPLEMENTED;
      if (!isOlder) {
        log.debug("no controller takes the ends of sessions", { error });
        return false;
      }
    }
    isGreeted = true;
    greeted.resolve();
    for (const { sessionId } of ended) for (const queue of [waiting, doubtful]) queue.delete(sessionId);
    return true;
  }

  async function run(): Promise<void> {
    const wait = backoff(firstRetryMs, maxRetryMs);
    while (!stop.signal.aborted) {
      if (isGreeted && left() === 0) {
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      } else if (await tell()) wait.reset();
      else await sleepOrAbort(firstRetryMs + wait.nextMs(), stop.signal);
    }
  }
  const running = run();

  function end(session: EndedSession): void {
    const [queue, most] = session.duration || session.lost ? [waiting, maxWaiting] : [doubtful, maxDoubtful];
    queue.set(session.sessionId, session);
    const [oldest] = queue.keys();
    if (queue.size > most && oldest !== undefined) queue.delete(oldest);
    wake?.();
  }

  const counted = countSessions(end, () => undefined);

  return {
    async started() {
      if (isGreeted) return;
      const late = new AbortController();
      await Promise.race([greeted.promise, sleepOrAbort(patienceMs, late.signal)]);
      late.abort();
      if (!isGreeted)
        throw new PitwallError("unavailable", "the controller cannot be reached right now; try again", {
          reason: "CONTROLLER_UNREACHABLE",
        });
    },
    ended: end,
    begin: () => counted.begin(),
    async [Symbol.asyncDispose]() {
      stop.abort();
      wake?.();
      await running;
      const deadline = systemClock.monotonicMs() + patienceMs;
      await counted.settled();
      while (left() > 0 && systemClock.monotonicMs() < deadline && (await tell()));
    },
  };
}
