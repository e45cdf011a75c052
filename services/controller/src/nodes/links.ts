// The way to a node's link, whichever controller holds it.
import type {
  Assignment,
  ImageAnswer,
  ImageCommand,
  NetworkAnswer,
  NetworkCommand,
  TunnelRequest,
} from "@pitwall/proto/pitwall/v1/link.ts";
import { PitwallError } from "@pitwall/runtime";
import type { Store } from "../store/store.ts";
import { seenSessions, type SeenSession } from "./session-rows.ts";
import type { Session, Sessions } from "./sessions.ts";

export interface NodeLink {
  /** docs/link.md */
  readonly capability: number;
  /** Throws `unavailable` when the link is gone. A refusal is an answer. */
  ask(command: NonNullable<ImageCommand["command"]>, signal: AbortSignal): Promise<ImageAnswer>;
  /** The same about its VMs' network. */
  askNetwork(command: NonNullable<NetworkCommand["command"]>, signal: AbortSignal): Promise<NetworkAnswer>;
  /** Throws `unavailable` when the link is gone. */
  tunnel(request: TunnelRequest, signal: AbortSignal): Promise<void>;
  /** Throws `unavailable` when the link is gone. */
  assign(assignments: readonly Assignment[]): Promise<void>;
}

/** Asks another controller; `address` is its link's. Throws as {@link NodeLink}. */
export interface Relay {
  ask(address: string, nodeId: string, command: NonNullable<ImageCommand["command"]>, signal: AbortSignal): Promise<ImageAnswer>;
  askNetwork(address: string, nodeId: string, command: NonNullable<NetworkCommand["command"]>, signal: AbortSignal): Promise<NetworkAnswer>;
  tunnel(address: string, nodeId: string, request: TunnelRequest, signal: AbortSignal): Promise<void>;
  assign(address: string, nodeId: string, assignments: readonly Assignment[]): Promise<void>;
}

export class NodeLinks {
  readonly #store: Store;
  readonly #sessions: Sessions;
  readonly #relay: Relay;
  readonly #ownId: string;

  constructor(parts: { store: Store; sessions: Sessions; relay: Relay; ownId: string }) {
    this.#store = parts.store;
    this.#sessions = parts.sessions;
    this.#relay = parts.relay;
    this.#ownId = parts.ownId;
  }

  /** Undefined while no controller holds one. */
  async of(nodeId: string): Promise<NodeLink | undefined> {
    return this.here(nodeId) ?? this.#elsewhere((await seenSessions(this.#store.read(), nodeId)).get(nodeId));
  }

  /** Waits for a link until the signal aborts; then undefined. */
  async whenThere(nodeId: string, signal: AbortSignal): Promise<NodeLink | undefined> {
    for (;;) {
      const changed = Promise.withResolvers<void>();
      const stop = this.#sessions.onChange((id) => id === nodeId && changed.resolve()); // before looking, so that nothing falls between
      const onAbort = (): void => changed.resolve();
      signal.addEventListener("abort", onAbort, { once: true });
      try {
        const link = await this.of(nodeId);
        if (link || signal.aborted) return link;
        await changed.promise;
      } finally {
        stop();
        signal.removeEventListener("abort", onAbort);
      }
    }
  }

  /** The links of all nodes that have one. */
  async all(): Promise<ReadonlyMap<string, NodeLink>> {
    const links = new Map<string, NodeLink>();
    for (const [nodeId, seen] of await seenSessions(this.#store.read())) {
      const link = this.here(nodeId) ?? this.#elsewhere(seen);
      if (link) links.set(nodeId, link);
    }
    return links;
  }

  /** Only if this controller holds it, and it takes messages: one that is closed may be there until its stream ends, when another has long begun. */
  here(nodeId: string): NodeLink | undefined {
    const session = this.#sessions.get(nodeId);
    return session?.outbox.isOpen === true ? localLink(session) : undefined;
  }

  #elsewhere(seen: SeenSession | undefined): NodeLink | undefined {
    if (seen?.life !== "ready" || seen.holder.id === this.#ownId) return undefined;
    const { nodeId, capability, holder } = seen;
    return {
      capability,
      ask: (command, signal) => this.#relay.ask(holder.address, nodeId, command, signal),
      askNetwork: (command, signal) => this.#relay.askNetwork(holder.address, nodeId, command, signal),
      tunnel: (request, signal) => this.#relay.tunnel(holder.address, nodeId, request, signal),
      assign: (assignments) => this.#relay.assign(holder.address, nodeId, assignments),
    };
  }
}

/** The way to a link that is held here. */
export function localLink({ capability, questions, networkQuestions, outbox }: Session): NodeLink {
  return {
    capability,
    ask: (command, signal) => questions.ask(command, signal),
    askNetwork: (command, signal) => networkQuestions.ask(command, signal),
    async tunnel(request) {
      if (!outbox.push({ message: { $case: "tunnel", value: request } })) throw noLink();
    },
    async assign(assignments) {
      const value = { assignments: [...assignments], complete: false };
      if (!outbox.push({ message: { $case: "assignments", value } })) throw noLink();
    },
  };
}

export function noLink(): PitwallError {
  return new PitwallError("unavailable", "the VM's node has no link to a controller right now; try again", { reason: "NODE_UNREACHABLE" });
}
