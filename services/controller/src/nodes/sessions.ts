// The links that this controller holds right now. One session per node: the newest, wherever it is held; the rows know.
import type {
  Assignment,
  ConnectResponse,
  ImageAnswer,
  ImageCommand,
  NetworkAnswer,
  NetworkCommand,
  TunnelRequest,
} from "@pitwall/proto/pitwall/v1/link.ts";
import { Outbox } from "@pitwall/runtime";
import { Questions } from "./questions.ts";
import type { EndReason } from "./session-rows.ts";

const outboxLimit = 10_000;

/** One node's live link. */
export interface Session {
  readonly nodeId: string;
  readonly epoch: bigint;
  /** docs/link.md */
  readonly capability: number;
  readonly outbox: Outbox<ConnectResponse>;
  /** About its images, and about its VMs' network. */
  readonly questions: Questions<NonNullable<ImageCommand["command"]>, ImageAnswer>;
  readonly networkQuestions: Questions<NonNullable<NetworkCommand["command"]>, NetworkAnswer>;
  /** Why it ends, once somebody has decided that. */
  endReason: EndReason;
}

/** What changed of a node: the node itself or its link, or only what its VMs are. */
export type NodeChange = "node" | "vms";

export class Sessions {
  readonly #byNode = new Map<string, Session>();
  readonly #listeners = new Set<(nodeId: string, what: NodeChange) => void>();
  #refusals = 0;

  /** Replaces the node's session; the older one ends. */
  begin(nodeId: string, epoch: bigint, capability: number): Session {
    const outbox = new Outbox<ConnectResponse>(outboxLimit);
    const session: Session = {
      ...{ nodeId, epoch, capability, outbox, endReason: "stream" },
      questions: new Questions((requestId, command) => outbox.push({ message: { $case: "imageCommand", value: { requestId, command } } })),
      networkQuestions: new Questions((requestId, command) =>
        outbox.push({ message: { $case: "networkCommand", value: { requestId, command } } }),
      ),
    };
    const other = this.#byNode.get(nodeId);
    if (other && other.epoch > epoch) {
      outbox.close(); // its hello was overtaken by a later one
      return session;
    }
    other?.outbox.close();
    this.#byNode.set(nodeId, session);
    this.changed(nodeId);
    return session;
  }

  end(session: Session): void {
    session.outbox.close();
    session.questions.close();
    session.networkQuestions.close();
    if (this.#byNode.get(session.nodeId) !== session) return;
    this.#byNode.delete(session.nodeId);
    this.changed(session.nodeId);
  }

  /** Ends the node's session if it is older than `epoch`: another controller may hold the newer one. */
  supersede(nodeId: string, epoch: bigint): void {
    const session = this.#byNode.get(nodeId);
    if (session && session.epoch < epoch) session.outbox.close();
  }

  /** Reports that were not taken because their node may not say that. */
  get refusals(): number {
    return this.#refusals;
  }

  noteRefusal(): void {
    this.#refusals++;
  }

  get(nodeId: string): Session | undefined {
    return this.#byNode.get(nodeId);
  }

  all(): Iterable<Session> {
    return this.#byNode.values();
  }

  /** Tells a node what one VM should be, if its link is here; otherwise its next hello brings that about. */
  assign(nodeId: string, assignment: Assignment): void {
    this.#byNode.get(nodeId)?.outbox.push({ message: { $case: "assignments", value: { assignments: [assignment], complete: false } } });
  }

  /** False when the node's link is not here. */
  tunnel(nodeId: string, request: TunnelRequest): boolean {
    return this.#byNode.get(nodeId)?.outbox.push({ message: { $case: "tunnel", value: request } }) ?? false;
  }

  /** Calls back with the id of each node that came, went or changed, on any controller. Returns how to stop. */
  onChange(listener: (nodeId: string, what: NodeChange) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  changed(nodeId: string, what: NodeChange = "node"): void {
    for (const listener of this.#listeners) listener(nodeId, what);
  }

  /** Tells all nodes to go elsewhere. */
  drain(reason: string): void {
    for (const session of this.#byNode.values()) {
      session.endReason = "drain";
      session.outbox.push({ message: { $case: "goodbye", value: { reason } } });
      session.outbox.close();
    }
  }
}

/** What is measured of them. */
export function levelsOf(sessions: Sessions): { readonly name: string; readonly help: string; readonly read: () => number }[] {
  return [
    { name: "pitwall_controller_links", help: "Nodes whose link is here.", read: () => [...sessions.all()].length },
    { name: "pitwall_controller_refused_reports", help: "What nodes may not say, and said.", read: () => sessions.refusals },
  ];
}
