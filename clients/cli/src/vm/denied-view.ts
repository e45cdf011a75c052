// What a VM was denied, as a table.
import { isIPv6 } from "node:net";
import { DeniedFlow_By as DeniedBy, ListDeniedFlowsResponse } from "@pitwall/sdk";
import type { View } from "../output/format.ts";
import { table } from "../output/table.ts";
import { ageWord } from "../output/words.ts";

/** By IANA's numbers. */
const protocols: Readonly<Record<number, string>> = {
  1: "icmp",
  2: "igmp",
  6: "tcp",
  17: "udp",
  47: "gre",
  50: "esp",
  58: "icmp",
  132: "sctp",
};

/** The JSON is the whole answer. */
export function deniedTable(denied: ListDeniedFlowsResponse, nowMs: number): View {
  const rows = denied.flows.map(({ destination, protocol, port, packets, lastTime, by }) => [
    destination,
    port === 0 ? (protocols[protocol] ?? String(protocol)) : `${protocols[protocol] ?? protocol}/${port}`,
    String(packets),
    ageWord(lastTime, nowMs),
    by === DeniedBy.BY_NODE ? "its node" : "its rules",
  ]);
  return {
    table: () => table(["DESTINATION", "PORT", "PACKETS", "LAST", "BY"], rows),
    json: ListDeniedFlowsResponse.toJSON(denied),
    names: denied.flows.map(({ destination, port }) => (isIPv6(destination) ? `[${destination}]:${port}` : `${destination}:${port}`)),
  };
}
