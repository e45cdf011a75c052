// Where a VM may send to: what is asked for, checked and written as the node's rules need it; and which nodes heed it.
import { isIPv4, isIPv6, SocketAddress } from "node:net";
import { EgressProtocol, EgressVerdict, VmSpec, type Egress, type EgressRule } from "@pitwall/proto/pitwall/v1/vm.ts";
import { invalid, PitwallError } from "@pitwall/runtime";
import { heedingCapability, pacingCapability } from "../placement/heeding.ts";
import type { VmRow } from "../store/entities.ts";
import type { EntityManager } from "../store/store.ts";
import { hasBandwidth } from "./bandwidth.ts";

const maxRules = 64;
const maxPort = 65_535;

/** Throws `invalid` naming the field. */
export function checkEgress(egress: Egress | undefined): Egress | undefined {
  if (!egress) return undefined;
  const { rules, otherwise } = egress;
  if (rules.length > maxRules) throw invalid("spec.egress.rules", `holds ${rules.length} rules; the limit is ${maxRules}`);
  checkVerdict(otherwise, "spec.egress.otherwise");
  return { rules: rules.map((rule, at) => checkRule(rule, `spec.egress.rules[${at}]`)), otherwise };
}

/** What is not said must not come to pass as "allow". */
function checkVerdict(verdict: EgressVerdict, field: string): void {
  if (verdict === EgressVerdict.EGRESS_VERDICT_ALLOW || verdict === EgressVerdict.EGRESS_VERDICT_DENY) return;
  throw invalid(field, "must be allow or deny");
}

function checkRule({ verdict, network, protocol, firstPort, lastPort }: EgressRule, field: string): EgressRule {
  checkVerdict(verdict, `${field}.verdict`);
  if (!(protocol in protocols)) throw invalid(`${field}.protocol`, `must be a protocol that this version knows, got ${protocol}`);
  if (firstPort > maxPort) throw invalid(`${field}.first_port`, `must be at most ${maxPort}, got ${firstPort}`);
  if (lastPort > maxPort) throw invalid(`${field}.last_port`, `must be at most ${maxPort}, got ${lastPort}`);
  if (lastPort !== 0 && firstPort === 0) throw invalid(`${field}.first_port`, "is required with a last one");
  if (lastPort !== 0 && lastPort < firstPort) throw invalid(`${field}.last_port`, `must not be before the first, ${firstPort}`);
  if (firstPort !== 0 && protocol === EgressProtocol.EGRESS_PROTOCOL_ICMP) throw invalid(`${field}.first_port`, "ICMP has no ports");
  return { verdict, network: network === "" ? "" : checkNetwork(network, `${field}.network`), protocol, firstPort, lastPort };
}

const protocols: Readonly<Record<number, true>> = {
  [EgressProtocol.EGRESS_PROTOCOL_UNSPECIFIED]: true,
  [EgressProtocol.EGRESS_PROTOCOL_TCP]: true,
  [EgressProtocol.EGRESS_PROTOCOL_UDP]: true,
  [EgressProtocol.EGRESS_PROTOCOL_ICMP]: true,
};

/** An address is a network of itself. */
function checkNetwork(network: string, field: string): string {
  const [address = "", bits, ...more] = network.split("/");
  const family = address.includes("%") ? undefined : isIPv4(address) ? "ipv4" : isIPv6(address) ? "ipv6" : undefined;
  const most = family === "ipv4" ? 32 : 128;
  const length = bits === undefined ? most : /^\d{1,3}$/.test(bits) ? Number(bits) : Number.NaN;
  if (family === undefined || !(length <= most) || more.length > 0)
    throw invalid(
      field,
      `must be an address or a network such as 203.0.113.0/24 or 2001:db8::/32, got ${JSON.stringify(network.slice(0, 80))}`,
    );
  return `${new SocketAddress({ address, family }).address}/${length}`;
}

/** Throws `unsupported` when the node that the VM is on would not heed what has become of these fields. */
export async function needHeeding(
  em: EntityManager,
  row: Pick<VmRow, "name" | "nodeId" | "spec">,
  fields: readonly string[],
): Promise<void> {
  const spec = VmSpec.fromJSON(row.spec);
  if (fields.includes("spec.egress") && spec.egress)
    await needCapability(em, row, { level: heedingCapability, field: "spec.egress", what: "rules for what it sends" });
  const paced = fields.find((field) => field.startsWith("spec.bandwidth_"));
  if (paced !== undefined && hasBandwidth(spec))
    await needCapability(em, row, { level: pacingCapability, field: paced, what: "a limit of its bandwidth" });
}

interface Needed {
  readonly level: number;
  readonly field: string;
  readonly what: string;
}

async function needCapability(
  em: EntityManager,
  { name, nodeId }: Pick<VmRow, "name" | "nodeId">,
  { level, field, what }: Needed,
): Promise<void> {
  const [node]: { capability: number; has_subnet: boolean }[] = await em.execute(
    `select capability, exists (select from node_subnet s where s.node_id = node_session.node_id) as has_subnet
       from node_session where node_id = ?`,
    [nodeId],
  );
  if (node && node.has_subnet && node.capability >= level) return;
  const isOld = node?.has_subnet === true;
  const why = isOld ? "its node's agent is too old: update it" : "its node has no network of its own (docs/network.md)";
  throw new PitwallError("unsupported", `the VM ${name} cannot have ${what}: ${why}`, {
    reason: isOld ? "AGENT_TOO_OLD" : "NO_NODE_NETWORK",
    field,
  });
}
