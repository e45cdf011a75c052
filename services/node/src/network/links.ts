// The bridge and its TAPs, as lines for `ip -batch` and `bridge -batch`. Pure. Each line may be repeated; those that then fail change nothing.
import { bridgeName, macOf, namesOf, type Subnet, type VmPort } from "./address-plan.ts";

/** Nobody learns anything on this bridge: who is where is written down, and what is for nobody goes to nobody. */
export function bridgeLines({ gateway, gateway6, bits }: Subnet, mtu: number): readonly string[] {
  return [
    `link add name ${bridgeName} type bridge stp_state 0 mcast_snooping 0`,
    `link set dev ${bridgeName} address ${macOf(gateway)} mtu ${mtu}`,
    `address replace ${gateway}/${bits} dev ${bridgeName}`,
    `address replace ${gateway6}/64 dev ${bridgeName} nodad`,
    `link set dev ${bridgeName} up`,
  ];
}

export interface TapLines {
  readonly ip: readonly string[];
  readonly bridge: readonly string[];
}

/**
 * It is up last, with all else in place. The alias is what a later run of the agent knows it by. The host has its
 * VMs' MACs in its neighbour table, and so asks for none.
 */
export function tapLines(subnet: Subnet, port: VmPort, mtu: number): TapLines {
  const { tap, mac, address6, linkLocal } = namesOf(subnet, port);
  return {
    ip: [
      // Without an owner it is anybody's who opens /dev/net/tun.
      `tuntap add dev ${tap} mode tap user 0`,
      `link set dev ${tap} master ${bridgeName} mtu ${mtu} addrgenmode none alias ${tapAlias(port)}`,
      `link set dev ${tap} type bridge_slave isolated on learning off flood off mcast_flood off bcast_flood off`,
      ...[port.address, address6, linkLocal].map((address) => `neigh replace ${address} lladdr ${mac} dev ${bridgeName} nud permanent`),
      `link set dev ${tap} up`,
    ],
    bridge: [`fdb replace ${mac} dev ${tap} master static`],
  };
}

export function noTapLines(subnet: Subnet, port: VmPort): readonly string[] {
  const { tap, address6, linkLocal } = namesOf(subnet, port);
  return [`link delete dev ${tap}`, ...[port.address, address6, linkLocal].map((address) => `neigh delete ${address} dev ${bridgeName}`)];
}

/** The bridge takes its addresses and neighbours along. */
export const noBridgeLines: readonly string[] = [`link delete dev ${bridgeName}`];

export function tapAlias({ vmId, epoch, address }: VmPort): string {
  return `pitwall/${vmId}/${epoch}/${address}`;
}

/** Undefined for what {@link tapAlias} has not written. */
export function fromTapAlias(alias: string): VmPort | undefined {
  const [, vmId, epoch, address] = /^pitwall\/([0-9a-f-]{36})\/(\d{1,20})\/([\d.]{7,15})$/.exec(alias) ?? [];
  return vmId === undefined || epoch === undefined || address === undefined ? undefined : { vmId, epoch: BigInt(epoch), address };
}
