// What grpc.health.v1 says of this controller: it serves while its database answers, and no longer once it stops.
import { onAbort, timeLimit, type Clock, type Log } from "@pitwall/runtime";
import { HealthState } from "nice-grpc-server-health";
import type { Store } from "../store/store.ts";

const askEveryMs = 1_000;
/** A database that has much to do is asked again before anybody goes elsewhere. */
const answerLimitMs = 2_000;

export interface Health extends AsyncDisposable {
  readonly state: HealthState;
  /** From now on it does not serve: gateways go to others while what is under way ends. */
  stopping(): void;
}

/** A question that any database answers. */
export const askOf = (store: Pick<Store, "read">) => async (): Promise<undefined> => void (await store.read().execute("select 1"));

/** `ask` asks the database something. Disposing it asks no more. */
export function openHealth(ask: () => Promise<unknown>, clock: Clock, log: Log): Health {
  const state = HealthState();
  const stop = new AbortController();
  let isStopping = false;

  async function answers(): Promise<boolean> {
    using limit = timeLimit(clock, answerLimitMs);
    const late = new Promise<never>((_, reject) => onAbort(limit.signal, () => reject(limit.signal.reason as Error)));
    try {
      await Promise.race([ask(), late]);
      return true;
    } catch (error) {
      log.debug("the database does not answer", { error });
      return false;
    }
  }

  async function follow(): Promise<void> {
    while (!stop.signal.aborted) {
      const isThere = await answers();
      if (!isStopping) state.setStatus(isThere ? "healthy" : "unhealthy");
      await clock.sleep(askEveryMs, stop.signal).catch(() => undefined);
    }
  }
  const following = follow();
  return {
    state,
    stopping() {
      isStopping = true;
      state.setStatus("unhealthy");
    },
    async [Symbol.asyncDispose]() {
      stop.abort();
      await following;
    },
  };
}
