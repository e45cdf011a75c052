// The bridge as machines see it: what the controller has given a VM, made into a TAP and into what its guest is told.
import type { Assignment } from "@pitwall/proto/pitwall/v1/link.ts";
import type { VmSpec } from "@pitwall/proto/pitwall/v1/vm.ts";
import { noFailpoints, PitwallError, type Failpoints, type Log } from "@pitwall/runtime";
import type { HostNetwork } from "../machine/host.ts";
import type { JournalEntry } from "../machine/journal.ts";
import { isOfSubnet, namesOf, type OwnRules, type Subnet, type VmPort } from "./address-plan.ts";
import { openBridgeNetwork } from "./bridge-network.ts";
import { denyAll, egressRules } from "./egress.ts";
import type { NetworkSettings, VmRules } from "./ground.ts";

/** The kernel gives a VM's only network device this name. */
const guestInterface = "eth0";

/** Makes the ground first. VMs that run keep what they have; what they may send is in the journals' entries. */
export async function openHostNetwork(
  settings: NetworkSettings,
  entries: readonly JournalEntry[],
  log: Log,
  failpoints: Failpoints = noFailpoints,
): Promise<HostNetwork & AsyncDisposable> {
  const { subnet, resolvers } = settings;
  const bridge = await openBridgeNetwork(settings, rulesIn(entries), log, failpoints);
  return {
    subnet: { ipv4: subnet.cidr, ipv6: subnet.cidr6 },
    guestNetwork(assignment) {
      const port = portOf(assignment, subnet);
      return {
        interface: guestInterface,
        address: `${port.address}/${subnet.bits}`,
        gateway: subnet.gateway,
        dns: resolvers,
        address6: `${namesOf(subnet, port).address6}/64`,
        gateway6: subnet.gateway6,
        mtu: bridge.mtu,
      };
    },
    async connect(assignment) {
      const port = portOf(assignment, subnet);
      await bridge.join(port);
      const { tap, mac } = namesOf(subnet, port);
      return { name: tap, mac };
    },
    heeds: ({ vmId, spec }) => spec === undefined || bridge.heeds(vmId, ownRules(spec)),
    heed: async ({ vmId, spec }) => (spec === undefined ? undefined : bridge.heed(vmId, ownRules(spec))),
    disconnect: (vmId) => bridge.leave(vmId),
    async denied(vmId) {
      const { flows, unlistedPackets } = await bridge.denied(vmId);
      return { flows: [...flows], unlistedPackets };
    },
    keepOnly: (vmIds) => bridge.keepOnly(vmIds),
    [Symbol.asyncDispose]: () => bridge[Symbol.asyncDispose](),
  };
}

/** Of VMs that are to be removed and of whose specification nothing is left, nothing passes. */
export function rulesIn(entries: readonly JournalEntry[]): VmRules {
  return new Map(entries.map(({ assignment: { vmId, spec } }) => [vmId, spec ? ownRules(spec) : { egress: denyAll }]));
}

function ownRules({ egress, bandwidthInBps, bandwidthOutBps }: VmSpec): OwnRules {
  return { egress, bandwidthInBps, bandwidthOutBps };
}

/** Addresses and rules go into commands and rules: they are looked at, whoever sent them. */
export function portOf({ vmId, epoch, address, spec }: Pick<Assignment, "vmId" | "epoch" | "address" | "spec">, subnet: Subnet): VmPort {
  const given = address?.ipv4 ?? "";
  if (spec?.egress) egressRules(spec.egress, "out");
  if (isOfSubnet(subnet, given)) return { vmId, epoch, address: given, ...(spec && ownRules(spec)) };
  const what = given === "" ? "no address" : `the address ${JSON.stringify(given.slice(0, 40))}`;
  throw new PitwallError(
    "unavailable",
    `the controller has given the VM ${what}, and this node's network is ${subnet.cidr}: start it again`,
    {
      reason: "NO_ADDRESS",
    },
  );
}
