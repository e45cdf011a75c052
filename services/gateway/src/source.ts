// Where a connection comes from, as limits count it.
import { BlockList, isIPv4, isIPv6, type Socket } from "node:net";

/** The other end of a connection, which whatever is on top of it knows, too. */
export function peerOf({ remoteAddress, remotePort }: Pick<Socket, "remoteAddress" | "remotePort">): string {
  return `${remoteAddress} ${remotePort}`;
}

/** Of IPv4 what is mapped into IPv6, of IPv6 without its zone. */
export function plain(address: string): string {
  return /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address)?.[1] ?? address.split("%")[0] ?? "";
}

/**
 * An IPv4 address, also one that is mapped into IPv6; of an IPv6 address the network (/64): a subscriber has all of it. Anything else is
 * itself.
 */
export function sourceOf(address: string): string {
  const known = plain(address);
  if (!isIPv6(known)) return isIPv4(known) ? known : address;
  const [head = "", tail] = known.split("::");
  const groups = (text: string): string[] => (text === "" ? [] : text.split(":"));
  const [before, after] = [groups(head), groups(tail ?? "")];
  const zeros = tail === undefined ? 0 : 8 - before.length - after.length - (known.includes(".") ? 1 : 0);
  const network = [...before, ...Array.from({ length: zeros }, () => "0"), ...after].slice(0, 4);
  return `${network.map((group) => Number.parseInt(group, 16).toString(16)).join(":")}::/64`;
}

/** Networks as `ADDRESS/BITS`, or addresses. Throws TypeError that names the one that is neither. */
export function networks(texts: readonly string[]): { has(address: string): boolean } {
  const known = new BlockList();
  for (const text of texts) {
    const [, address = "", bits] = /^([^/]+)(?:\/(\d{1,3}))?$/.exec(text) ?? [];
    const [family, most] = isIPv4(address) ? (["ipv4", 32] as const) : isIPv6(address) ? (["ipv6", 128] as const) : [undefined, 0];
    if (!family || (bits !== undefined && Number(bits) > most))
      throw new TypeError(`expected an address or ADDRESS/BITS, got ${JSON.stringify(text)}`);
    known.addSubnet(address, bits === undefined ? most : Number(bits), family);
  }
  return {
    has(address) {
      const asked = plain(address);
      return isIPv4(asked) ? known.check(asked, "ipv4") : isIPv6(asked) && known.check(asked, "ipv6");
    },
  };
}
