// The bridge as machines see it: what the controller has given a VM, made into a TAP and into what its guest is told.
import type { Assignment } from "@pitwall/proto/pitwall/v1/link.ts";
import { PitwallError, type Log } from "@pitwall/runtime";
import type { HostNetwork } from "../machine/host.ts";
import { isOfSubnet, namesOf, type Subnet, type VmPort } from "./address-plan.ts";
import { openBridgeNetwork } from "./bridge-network.ts";
import type { NetworkSettings } from "./ground.ts";

/** The kernel gives a VM's only network device this name. */
const guestInterface = "eth0";

/** Makes the ground first. VMs that run keep what they have. */
export async function openHostNetwork(settings: NetworkSettings, log: Log): Promise<HostNetwork & AsyncDisposable> {
  const { subnet, resolvers } = settings;
  const bridge = await openBridgeNetwork(settings, log);
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
    disconnect: (vmId) => bridge.leave(vmId),
    keepOnly: (vmIds) => bridge.keepOnly(vmIds),
    [Symbol.asyncDispose]: () => bridge[Symbol.asyncDispose](),
  };
}

/** An address goes into commands and rules: it is looked at, whoever sent it. */
export function portOf({ vmId, epoch, address }: Pick<Assignment, "vmId" | "epoch" | "address">, subnet: Subnet): VmPort {
  const given = address?.ipv4 ?? "";
  if (isOfSubnet(subnet, given)) return { vmId, epoch, address: given };
  const what = given === "" ? "no address" : `the address ${JSON.stringify(given.slice(0, 40))}`;
  throw new PitwallError(
    "unavailable",
    `the controller has given the VM ${what}, and this node's network is ${subnet.cidr}: start it again`,
    {
      reason: "NO_ADDRESS",
    },
  );
}
