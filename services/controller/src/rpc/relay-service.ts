// RelayService: passes on to a node's link what came to another controller.
import type { RelayServiceImplementation } from "@pitwall/proto/pitwall/v1/relay.ts";
import { invalid } from "@pitwall/runtime";
import { noLink, type NodeLink, type NodeLinks } from "../nodes/links.ts";
import type { CallerContext } from "./identity.ts";

export function relayService(links: Pick<NodeLinks, "here">): RelayServiceImplementation<CallerContext> {
  const linkOf = (nodeId: string): NodeLink => {
    const link = links.here(nodeId);
    if (!link) throw noLink(); // never passed on once more: controllers must not send a call round
    return link;
  };
  return {
    async relayTunnel({ nodeId, tunnel }, { signal }) {
      if (!tunnel) throw invalid("tunnel", "is required");
      await linkOf(nodeId).tunnel(tunnel, signal);
      return {};
    },
    async relayAssignments({ nodeId, assignments }) {
      await linkOf(nodeId).assign(assignments);
      return {};
    },
    async relayNetworkCommand({ nodeId, command }, { signal }) {
      if (!command?.command) throw invalid("command", "is required");
      return { answer: await linkOf(nodeId).askNetwork(command.command, signal) };
    },
    async relayImageCommand({ nodeId, command }, { signal }) {
      if (!command?.command) throw invalid("command", "is required");
      return { answer: await linkOf(nodeId).ask(command.command, signal) };
    },
  };
}
