// NodeService: the API's words around Nodes and join tokens.
import { JoinRole, type Node, type NodeServiceImplementation } from "@pitwall/proto/pitwall/v1/node.ts";
import { invalid, Outbox } from "@pitwall/runtime";
import type { Enroll } from "../enroll/enroll.ts";
import type { Nodes } from "../nodes/nodes.ts";
import type { Sessions } from "../nodes/sessions.ts";
import type { CallerContext } from "./identity.ts";
import { notYet } from "./not-yet.ts";
import { pageLimit, pageOf } from "./page.ts";

export function nodeService(nodes: Nodes, sessions: Sessions, enroll: Enroll): NodeServiceImplementation<CallerContext> {
  return {
    getNode: async ({ node }) => ({ node: await nodes.get(node) }),
    async listNodes({ pageSize, pageToken }) {
      const rest = (await nodes.list()).filter(({ name }) => name > pageToken);
      const { page, nextPageToken } = pageOf(rest, pageLimit(pageSize));
      return { nodes: page, nextPageToken };
    },
    async *watchNodes(_, { signal }) {
      const changed = new Outbox<string>(10_000);
      const stop = sessions.onChange((nodeId) => changed.push(nodeId));
      signal.addEventListener("abort", () => changed.close(), { once: true });
      try {
        for (const node of await nodes.list()) yield { node, synced: false };
        yield { node: undefined, synced: true };
        for await (const nodeId of changed) {
          const node: Node | undefined = await nodes.get(nodeId).catch(() => undefined);
          if (node) yield { node, synced: false };
        }
      } finally {
        stop();
        changed.close();
      }
    },
    cordonNode: notYet,
    uncordonNode: notYet,
    drainNode: notYet,
    fenceNode: notYet,
    deleteNode: notYet,
    async createJoinToken({ role, name, uses }) {
      switch (role) {
        case JoinRole.JOIN_ROLE_NODE:
          return enroll.createToken("node", name, uses || 1);
        case JoinRole.JOIN_ROLE_GATEWAY:
          return enroll.createToken("gateway", name, uses || 1);
        default:
          throw invalid("role", "must be JOIN_ROLE_NODE or JOIN_ROLE_GATEWAY");
      }
    },
  };
}
