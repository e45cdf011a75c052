// What the controller asks of the node's network, answered.
import type { NetworkAnswer, NetworkCommand } from "@pitwall/proto/pitwall/v1/link.ts";
import { messageChain, PitwallError } from "@pitwall/runtime";
import type { HostNetwork } from "./host.ts";

/** Never rejects: a refusal is an answer. */
export async function answerNetwork(network: HostNetwork | undefined, { requestId, command }: NetworkCommand): Promise<NetworkAnswer> {
  const answer: NetworkAnswer = { requestId, reason: "", message: "", deniedFlows: undefined };
  if (!network) return { ...answer, reason: "NO_NODE_NETWORK", message: "the VM's node has no network of its own" };
  try {
    switch (command?.$case) {
      case "deniedFlows":
        return { ...answer, deniedFlows: await network.denied(command.value.vmId) };
      case undefined:
        return { ...answer, reason: "UNKNOWN_COMMAND", message: "this node's agent does not know the command" };
    }
  } catch (error) {
    if (error instanceof PitwallError) return { ...answer, reason: error.reason || "INTERNAL", message: error.message };
    return { ...answer, reason: "INTERNAL", message: `the node met an error: ${messageChain(error)}` };
  }
}
