// Which nodes have a link right now. One session per node: the newest.
import type { Assignment, ConnectResponse, TunnelRequest } from "@pitwall/proto/pitwall/v1/link.ts";
import { Outbox } from "@pitwall/runtime";
import { Questions } from "./questions.ts";

const outboxLimit = 10_000;

/** One node's live link. */
export interface Session {
  readonly nodeId: string;
  readonly epoch: bigint;
  /** docs/link.md */
  readonly capability: number;
  readonly outbox: Outbox<ConnectResponse>;
  readonly questions: Questions;
  lastHeartbeat: Date;
}

export class Sessions {
  readonly #byNode = new Map<string, Session>();
  readonly #listeners = new Set<(nodeId: string) => void>();

  /** Replaces the node's session; the older one ends. */
  begin(nodeId: string, epoch: bigint, capability: number): Session {
    this.#byNode.get(nodeId)?.outbox.close();
    const outbox = new Outbox<ConnectResponse>(outboxLimit);
    const session = { nodeId, epoch, capability, outbox, questions: new Questions(outbox), lastHeartbeat: new Date() };
    this.#byNode.set(nodeId, session);
    this.changed(nodeId);
    return session;
  }

  end(session: Session): void {
    session.outbox.close();
    session.questions.close();
    if (!this.isCurrent(session)) return;
    this.#byNode.delete(session.nodeId);
    this.changed(session.nodeId);
  }

  isCurrent(session: Session): boolean {
    return this.#byNode.get(session.nodeId) === session;
  }

  get(nodeId: string): Session | undefined {
    return this.#byNode.get(nodeId);
  }

  /** Tells a node what one VM should be, if it has a link; otherwise its next hello brings that about. */
  assign(nodeId: string, assignment: Assignment): void {
    this.#byNode.get(nodeId)?.outbox.push({ message: { $case: "assignments", value: { assignments: [assignment], complete: false } } });
  }

  /** False when the node has no link. */
  tunnel(nodeId: string, request: TunnelRequest): boolean {
    return this.#byNode.get(nodeId)?.outbox.push({ message: { $case: "tunnel", value: request } }) ?? false;
  }

  /** Calls back with the id of each node that came, went or changed. Returns how to stop. */
  onChange(listener: (nodeId: string) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  changed(nodeId: string): void {
    for (const listener of this.#listeners) listener(nodeId);
  }

  /** Tells all nodes to come again later. */
  drain(reason: string): void {
    for (const { outbox } of this.#byNode.values()) {
      outbox.push({ message: { $case: "goodbye", value: { reason } } });
      outbox.close();
    }
  }
}
