// NodeService: the API's words around Nodes and join tokens.
import type { Node, NodeServiceImplementation } from "@pitwall/proto/pitwall/v1/node.ts";
import { Outbox, PitwallError } from "@pitwall/runtime";
import type { JoinTokens } from "../enroll/join-tokens.ts";
import type { Gateways } from "../nodes/gateways.ts";
import type { FleetChanges } from "../nodes/fleet-changes.ts";
import type { Nodes } from "../nodes/nodes.ts";
import type { Sessions } from "../nodes/sessions.ts";
import { userOf, type CallerContext } from "./identity.ts";
import type { Pages } from "./page.ts";

/** A node that is removed on another controller leaves nothing behind that would tell of it: now and then they are counted. */
const look = Symbol("look");
const lookEveryMs = 2_000;

export interface NodeServiceParts {
  readonly nodes: Nodes;
  readonly fleet: FleetChanges;
  readonly gateways: Gateways;
  readonly sessions: Sessions;
  readonly joinTokens: JoinTokens;
  readonly pages: Pages;
}

export function nodeService({
  nodes,
  fleet,
  gateways,
  sessions,
  joinTokens,
  pages,
}: NodeServiceParts): NodeServiceImplementation<CallerContext> {
  return {
    getNode: async ({ node }) => ({ node: await nodes.get(node) }),
    async listNodes(request, context) {
      const { after, cut } = pages(userOf(context), ["ListNodes"], request);
      const rest = (await nodes.list()).filter(({ name }) => name > after);
      const { page, nextPageToken } = cut(rest, ({ name }) => name);
      return { nodes: page, nextPageToken };
    },
    async *watchNodes(_, { signal }) {
      const changed = new Outbox<string | typeof look>(10_000);
      const stop = sessions.onChange((nodeId) => changed.push(nodeId));
      const looking = setInterval(() => changed.push(look), lookEveryMs);
      signal.addEventListener("abort", () => changed.close(), { once: true });
      /** As it was last told: one that is removed is told of as that. */
      const known = new Map<string, Node>();
      try {
        for (const node of await nodes.list()) {
          known.set(node.id, node);
          yield { node, synced: false, removed: false };
        }
        yield { node: undefined, synced: true, removed: false };
        for await (const nodeId of changed) {
          const node = nodeId === look ? undefined : await found(nodes.get(nodeId));
          if (node) {
            known.set(node.id, node);
            yield { node, synced: false, removed: false };
            continue;
          }
          const there = new Set((await nodes.names()).map(({ id }) => id));
          for (const last of known.values())
            if (!there.has(last.id)) {
              known.delete(last.id);
              yield { node: last, synced: false, removed: true };
            }
        }
      } finally {
        clearInterval(looking);
        stop();
        changed.close();
      }
    },
    cordonNode: (request, context) => fleet.cordon(userOf(context), request),
    uncordonNode: (request, context) => fleet.uncordon(userOf(context), request),
    drainNode: (request, context) => fleet.drain(userOf(context), request),
    fenceNode: (request, context) => fleet.fence(userOf(context), request),
    deleteNode: (request, context) => fleet.delete(userOf(context), request),
    revokeNode: (request, context) => fleet.revoke(userOf(context), request),
    listGateways: async () => ({ gateways: await gateways.list() }),
    revokeGateway: (request, context) => gateways.revoke(userOf(context), request),
    createJoinToken: (request, context) => joinTokens.create(userOf(context), request),
  };
}

/** Undefined: it is not there. */
async function found(looking: Promise<Node>): Promise<Node | undefined> {
  return looking.catch((error: unknown) => {
    if (error instanceof PitwallError && error.fault === "not-found") return undefined;
    throw error;
  });
}
