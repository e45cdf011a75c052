// Which servers for names a host's VMs can ask: those of the host that are not on its loopback.
import { readFile } from "node:fs/promises";
import { isIP } from "node:net";

/** systemd-resolved listens on loopback and says behind that whom it asks. */
const places = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"] as const;

/** Of the first place that has any; empty when there is none. */
export async function hostResolvers(): Promise<readonly string[]> {
  for (const place of places) {
    const found = resolversIn(await readFile(place, "utf8").catch(() => ""));
    if (found.length > 0) return found;
  }
  return [];
}

/** At most three, as with glibc. Link-local ones would need to know the host's interface. */
export function resolversIn(text: string): readonly string[] {
  return text
    .split("\n")
    .flatMap((line) => /^nameserver\s+(\S+)\s*$/.exec(line.trim())?.[1] ?? [])
    .filter((address) => isIP(address) !== 0 && !/^(127\.|::1$|fe[89ab])/i.test(address))
    .slice(0, 3);
}
