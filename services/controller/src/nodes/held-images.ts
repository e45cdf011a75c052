// Which images nodes hold, as they say it: for placement, which likes nodes that have a VM's image already.
//
// A node says the whole list when it has changed. The last one counts, and what comes faster than it is written is left out. It is kept over
// the end of its session: a cache is on a disk.
import { systemClock, type Clock, type Log } from "@pitwall/runtime";
import type { Store } from "../store/store.ts";
import { gather } from "./gather.ts";
import type { Session } from "./sessions.ts";

/** docs/link.md: of nodes that say it. Of others, and of those that have not said anything yet, what is placed on them counts. */
export const sayingCapability = 10;
/** Of one node; more are not counted. */
export const mostImages = 512;
const isDigest = /^sha256:[0-9a-f]{64}$/;
const nodesAtOnce = 500;
/** How often one node's list is written, at most. */
const everyMs = 1_000;

interface Said {
  readonly session: Session;
  readonly digests: readonly string[];
}

export class HeldImages {
  readonly #store: Store;
  readonly #log: Log;
  readonly #clock: Clock;
  readonly #write = gather((said: readonly Said[]) => this.#writeAll(said), nodesAtOnce);
  /** What is to be written of each session of which something is being written. */
  readonly #waiting = new Map<Session, readonly string[] | undefined>();

  constructor({ store, log, clock = systemClock }: { readonly store: Store; readonly log: Log; readonly clock?: Clock | undefined }) {
    this.#store = store;
    this.#log = log;
    this.#clock = clock;
  }

  /** Returns at once: heartbeats must not wait for it. */
  take(session: Session, digests: readonly string[]): void {
    const isUnderWay = this.#waiting.has(session);
    this.#waiting.set(session, boundedImages(digests));
    if (!isUnderWay) void this.#work(session);
  }

  /** Never rejects. */
  async #work(session: Session): Promise<void> {
    for (let digests = this.#waiting.get(session); digests; digests = this.#waiting.get(session)) {
      this.#waiting.set(session, undefined);
      const writing = this.#write({ session, digests });
      await writing.catch((error: unknown) =>
        this.#log.warn("what images a node holds could not be written", { node: session.nodeId, error }),
      );
      await this.#clock.sleep(everyMs);
    }
    this.#waiting.delete(session);
  }

  async #writeAll(said: readonly Said[]): Promise<void[]> {
    const rows = said.map(({ session: { nodeId, epoch }, digests }) => ({ node_id: nodeId, epoch: String(epoch), digests }));
    await this.#store.write(
      `insert into node_images as had (node_id, digests)
       select s.node_id, given.digests from jsonb_to_recordset(?::jsonb) as given(node_id uuid, epoch bigint, digests jsonb)
         join node_session s on s.node_id = given.node_id and s.epoch = given.epoch and s.lost_time is null order by s.node_id
       on conflict (node_id) do update set digests = excluded.digests where had.digests <> excluded.digests`,
      [JSON.stringify(rows)],
    );
    return said.map(() => undefined);
  }
}

/** Each once and in order, and nothing else. */
export function boundedImages(digests: readonly string[]): string[] {
  return [...new Set(digests.filter((digest) => isDigest.test(digest)))].toSorted().slice(0, mostImages);
}
