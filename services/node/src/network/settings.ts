// The variables that say what a node's network is like.
import { isIP, isIPv4, isIPv6 } from "node:net";
import { list, messageChain } from "@pitwall/runtime";
import { z } from "zod";
import { parseSubnet, type Subnet } from "./address-plan.ts";
import type { NetworkSettings } from "./ground.ts";
import { hostResolvers } from "./resolvers.ts";

const addresses = list.superRefine((all, context) => {
  for (const one of all.filter((address) => isIP(address) === 0 || address.includes("%"))) {
    context.addIssue({ code: "custom", message: `expected addresses separated by commas, got "${one}"` });
  }
});

const networks = list.superRefine((all, context) => {
  for (const one of all.filter((cidr) => !isNetwork(cidr))) {
    context.addIssue({ code: "custom", message: `expected networks such as 10.1.0.0/16 or fd00::/8, separated by commas, got "${one}"` });
  }
});

const subnet = z.string().transform((text, context): Subnet => {
  try {
    return parseSubnet(text);
  } catch (error) {
    context.addIssue({ code: "custom", message: messageChain(error) });
    return z.NEVER;
  }
});

/** Keys of the node's configuration. */
export const networkSchema = {
  PITWALL_NETWORK: z.enum(["user", "bridge"]).default("user"),
  PITWALL_SUBNET: subnet.prefault("172.30.0.0/16"),
  PITWALL_DNS: addresses.optional(),
  PITWALL_EGRESS_ALLOW: networks.prefault(""),
  PITWALL_EGRESS_DENY: networks.prefault(""),
} as const;

interface NetworkConfig {
  readonly PITWALL_STATE_DIR: string;
  readonly PITWALL_SUBNET: Subnet;
  readonly PITWALL_DNS?: readonly string[] | undefined;
  readonly PITWALL_EGRESS_ALLOW: readonly string[];
  readonly PITWALL_EGRESS_DENY: readonly string[];
}

/** With the host's own name servers where none are named. */
export async function networkSettings(config: NetworkConfig): Promise<NetworkSettings> {
  return {
    stateDir: config.PITWALL_STATE_DIR,
    subnet: config.PITWALL_SUBNET,
    resolvers: config.PITWALL_DNS ?? (await hostResolvers()),
    allowed: config.PITWALL_EGRESS_ALLOW,
    denied: config.PITWALL_EGRESS_DENY,
  };
}

/** It goes into a script as it is, so it must be nothing else. */
function isNetwork(cidr: string): boolean {
  const [address = "", bits = "", ...rest] = cidr.split("/");
  const most = isIPv4(address) ? 32 : isIPv6(address) && !address.includes("%") ? 128 : -1;
  return rest.length === 0 && /^\d{1,3}$/.test(bits) && Number(bits) <= most;
}
