// What a node says of its VMs' addresses, as far as it makes sense.
import { isIPv4, isIPv6 } from "node:net";
import type { Hello } from "@pitwall/proto/pitwall/v1/link.ts";

export interface SaidSubnet {
  readonly ipv4: string;
  /** Always a /64. */
  readonly ipv6: string;
}

/** Undefined when it says none, or one that cannot be: its VMs then have no addresses. */
export function subnetOf({ subnet }: Pick<Hello, "subnet">): SaidSubnet | undefined {
  const [address = "", bits = "", ...more] = subnet?.ipv4.split("/") ?? [];
  const [address6 = "", bits6 = "", ...more6] = subnet?.ipv6.split("/") ?? [];
  const is4 = isIPv4(address) && /^\d{1,2}$/.test(bits) && Number(bits) >= 8 && Number(bits) <= 28 && more.length === 0;
  const is6 = isIPv6(address6) && !address6.includes("%") && bits6 === "64" && more6.length === 0;
  return is4 && is6 ? { ipv4: `${address}/${bits}`, ipv6: `${address6}/64` } : undefined;
}
