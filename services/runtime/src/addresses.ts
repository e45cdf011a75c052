// Which addresses are of the public Internet. What a user or another server names must not reach our own networks through us (SSRF).
import { BlockList, isIP } from "node:net";

const privateNets = new BlockList();
const privateIpv4 = [
  ["0.0.0.0", 8],
  ["10.0.0.0", 8],
  ["100.64.0.0", 10],
  ["127.0.0.0", 8],
  ["169.254.0.0", 16],
  ["172.16.0.0", 12],
  ["192.0.0.0", 24],
  ["192.0.2.0", 24],
  ["192.168.0.0", 16],
  ["198.18.0.0", 15],
  ["198.51.100.0", 24],
  ["203.0.113.0", 24],
  ["224.0.0.0", 3],
] as const;
/** The last three carry IPv4 addresses (NAT64, 6to4, Teredo), of which any may be private. */
const privateIpv6 = [
  ["::", 127],
  ["fc00::", 7],
  ["fe80::", 10],
  ["fec0::", 10],
  ["ff00::", 8],
  ["2001:db8::", 32],
  ["64:ff9b::", 96],
  ["2002::", 16],
  ["2001::", 32],
] as const;
for (const [net, prefix] of privateIpv4) privateNets.addSubnet(net, prefix);
for (const [net, prefix] of privateIpv6) privateNets.addSubnet(net, prefix, "ipv6");

/** Whether an address is not of the public Internet. IPv4 in IPv6 counts as IPv4; what is no address counts as private. */
export function isPrivateAddress(address: string): boolean {
  const family = isIP(address);
  if (family === 0) return true;
  return privateNets.check(address, family === 6 ? "ipv6" : "ipv4");
}

/** The host of a URL as an address, without the brackets of IPv6; undefined when it is a name. */
export function literalAddress(url: URL): string | undefined {
  const bare = url.hostname.replace(/^\[|\]$/g, "");
  return isIP(bare) === 0 ? undefined : bare;
}
