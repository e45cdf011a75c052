// What follows from a node's subnet and a VM's address alone: gateway, IPv6, MAC, and the name of the TAP. Pure.
import { createHash } from "node:crypto";
import { isIPv4, SocketAddress } from "node:net";
import type { Egress } from "@pitwall/proto/pitwall/v1/vm.ts";
import { PitwallError } from "@pitwall/runtime";

export const bridgeName = "pwbr0";

/** A private IPv4 network, and the IPv6 one that goes with it. */
export interface Subnet {
  /** `172.30.0.0/16` */
  readonly cidr: string;
  readonly bits: number;
  /** Of IPv6, always a /64 of unique local addresses: `fd12:3456:789a::/64`. */
  readonly cidr6: string;
  /** Of the bridge. */
  readonly gateway: string;
  readonly gateway6: string;
}

/** What its specification says of a VM's network. It is not written on the TAP. */
export interface OwnRules {
  /** For what it sends; none: all that the node lets out. */
  readonly egress?: Egress | undefined;
  /** Bits a second that it may be sent, and may send, by way of the host; none, or 0: as many as there is room for. */
  readonly bandwidthInBps?: bigint | undefined;
  readonly bandwidthOutBps?: bigint | undefined;
}

/** What one VM has on the network. */
export interface VmPort extends OwnRules {
  readonly vmId: string;
  readonly epoch: bigint;
  readonly address: string;
}

/** What follows from it. */
export interface PortNames {
  readonly tap: string;
  readonly mac: string;
  readonly address6: string;
  /** The one that Linux makes of the MAC. */
  readonly linkLocal: string;
}

/** Ranges of RFC 1918 and RFC 6598: a subnet of anybody else's addresses would hide what has them. */
const privateRanges: readonly (readonly [string, number])[] = [
  ["10.0.0.0", 8],
  ["172.16.0.0", 12],
  ["192.168.0.0", 16],
  ["100.64.0.0", 10],
];
const fewestBits = 8;
const mostBits = 28;

/** Throws `invalid`. */
export function parseSubnet(cidr: string): Subnet {
  const [address = "", bitsText = ""] = cidr.split("/");
  const bits = Number(bitsText);
  const isWhole = isIPv4(address) && /^\d{1,2}$/.test(bitsText) && bits >= fewestBits && bits <= mostBits;
  if (!isWhole) throw refusedSubnet(cidr, `an IPv4 network of /${fewestBits} to /${mostBits}, like 172.30.0.0/16`);
  const first = toNumber(address);
  if (first !== networkOf(first, bits))
    throw refusedSubnet(cidr, `${toText(networkOf(first, bits))}/${bits}: it has bits beyond its length`);
  const isPrivate = privateRanges.some(([range, length]) => bits >= length && networkOf(first, length) === toNumber(range));
  if (!isPrivate) throw refusedSubnet(cidr, `a part of ${privateRanges.map(([range, length]) => `${range}/${length}`).join(", ")}`);
  const gateway = toText(first + 1);
  return { cidr, bits, cidr6: `${address6Of(cidr, undefined)}/64`, gateway, gateway6: address6Of(cidr, gateway) };
}

function refusedSubnet(cidr: string, expected: string): PitwallError {
  return new PitwallError("invalid", `${JSON.stringify(cidr)} is no subnet for VMs: expected ${expected}`, { reason: "INVALID_SUBNET" });
}

/** Whether a VM of this node may have it: not the network's, the gateway's or the broadcast address. */
export function isOfSubnet({ cidr, bits, gateway }: Subnet, address: string): boolean {
  if (!isIPv4(address)) return false;
  const number = toNumber(address);
  const first = toNumber(cidr.split("/", 1)[0] ?? "");
  const last = first + 2 ** (32 - bits) - 1;
  return number > first && number < last && address !== gateway;
}

export function namesOf({ cidr }: Subnet, { vmId, epoch, address }: VmPort): PortNames {
  return { tap: tapName(vmId, epoch), mac: macOf(address), address6: address6Of(cidr, address), linkLocal: linkLocalOf(address) };
}

/** Two placements never share one, and none is made by counting; 14 characters of the 15 that the kernel takes. */
export function tapName(vmId: string, epoch: bigint): string {
  return `pw${createHash("sha256").update(`${vmId} ${epoch}`).digest("hex").slice(0, 12)}`;
}

export function isTapName(name: string): boolean {
  return /^pw[0-9a-f]{12}$/.test(name);
}

/** Locally administered, so it is no vendor's. */
export function macOf(address: string): string {
  return ["02", "00", ...octets(address).map(hexByte)].join(":");
}

/** Any network of the same IPv4 range has the same IPv6 one (RFC 4193, but that the 40 bits are no random ones); hosts are told apart by IPv4. */
function address6Of(cidr: string, address: string | undefined): string {
  const id = createHash("sha256").update(`pitwall ${cidr}`).digest("hex");
  const host = address === undefined ? "" : hexGroups(address);
  return canonical6(`fd${id.slice(0, 2)}:${id.slice(2, 6)}:${id.slice(6, 10)}::${host}`);
}

function linkLocalOf(address: string): string {
  const [a = 0, b = 0, c = 0, d = 0] = octets(address);
  return canonical6(`fe80::${hexByte(a)}ff:fe${hexByte(b)}:${hexByte(c)}${hexByte(d)}`);
}

/** As the kernel's tools print it. */
function canonical6(address: string): string {
  return new SocketAddress({ address, family: "ipv6" }).address;
}

function hexGroups(address: string): string {
  const [a = 0, b = 0, c = 0, d = 0] = octets(address);
  return `${hexByte(a)}${hexByte(b)}:${hexByte(c)}${hexByte(d)}`;
}

const hexByte = (byte: number): string => byte.toString(16).padStart(2, "0");
const octets = (address: string): number[] => address.split(".").map(Number);
const toNumber = (address: string): number => octets(address).reduce((sum, byte) => sum * 256 + byte, 0);
const networkOf = (number: number, bits: number): number => number - (number % 2 ** (32 - bits));

function toText(number: number): string {
  return [24, 16, 8, 0].map((shift) => Math.floor(number / 2 ** shift) % 256).join(".");
}
