// What administrators do to nodes.
import type { Client } from "nice-grpc-web";
import { present, type CallExtras } from "./calls.ts";
import type { DrainStep, Gateway, Node, NodeServiceDefinition } from "./gen/pitwall/v1/node.ts";

/** `node` is a name or an id. Each call may be made again: it carries a request id of its own. */
export class Fleet {
  readonly #raw: Client<typeof NodeServiceDefinition, CallExtras>;

  constructor(raw: Client<typeof NodeServiceDefinition, CallExtras>) {
    this.#raw = raw;
  }

  /** Nothing more is placed on the node. */
  async cordon(node: string): Promise<Node> {
    return present((await this.#raw.cordonNode({ node, requestId: crypto.randomUUID() }, { retry: true })).node);
  }

  /** VMs are placed on it again; a drain ends. */
  async uncordon(node: string): Promise<Node> {
    return present((await this.#raw.uncordonNode({ node, requestId: crypto.randomUUID() }, { retry: true })).node);
  }

  /** Cordons the node and empties it; `Node.draining` is true until that is done. With `dryRun`, only says what would become of each VM. */
  async drain(node: string, { dryRun = false }: { dryRun?: boolean } = {}): Promise<{ node: Node; steps: DrainStep[] }> {
    const requestId = dryRun ? "" : crypto.randomUUID();
    const { node: drained, steps } = await this.#raw.drainNode({ node, requestId, validateOnly: dryRun }, { retry: true });
    return { node: present(drained), steps };
  }

  /** Says that the node is switched off for certain. Throws FAILED_PRECONDITION while its link is up. */
  async fence(node: string): Promise<Node> {
    return present((await this.#raw.fenceNode({ node, requestId: crypto.randomUUID() }, { retry: true })).node);
  }

  /**
   * Refuses the node's certificate from now on and cuts its link, whatever it does. With `dryRun`, only says what would become of each VM. It
   * cannot come back but by joining anew, once it is removed.
   */
  async revoke(node: string, { dryRun = false }: { dryRun?: boolean } = {}): Promise<{ node: Node; steps: DrainStep[] }> {
    const requestId = dryRun ? "" : crypto.randomUUID();
    const { node: revoked, steps } = await this.#raw.revokeNode({ node, requestId, validateOnly: dryRun }, { retry: true });
    return { node: present(revoked), steps };
  }

  /** All gateways, by name. */
  async gateways(): Promise<Gateway[]> {
    return (await this.#raw.listGateways({}, { retry: true })).gateways;
  }

  /** Refuses the gateway's certificate from now on; `gateway` is a name or an id. */
  async revokeGateway(gateway: string): Promise<void> {
    await this.#raw.revokeGateway({ gateway, requestId: crypto.randomUUID() }, { retry: true });
  }

  /** Forgets the node and takes its certificate back. Throws FAILED_PRECONDITION while VMs are placed on it. */
  async remove(node: string): Promise<void> {
    await this.#raw.deleteNode({ node, requestId: crypto.randomUUID() }, { retry: true });
  }
}
