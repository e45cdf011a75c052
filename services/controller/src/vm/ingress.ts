// How a VM's ports are reached by HTTP: its name below the gateways' domain, and which of them are open to everybody.
import type { Ingress } from "@pitwall/proto/pitwall/v1/vm.ts";
import { invalid, isUuid, PitwallError } from "@pitwall/runtime";
import type { VmRow } from "../store/entities.ts";
import { checkName } from "./names.ts";

/** `65535-` before it makes a DNS label, which has 63 letters at most. */
const maxHostLength = 57;
const maxPublicPorts = 32;
export const defaultHttpPort = 80;

/** What the columns of a new VM hold: it has no name but its id, and all its ports are private. */
export const noIngress = { host: null, httpPort: defaultHttpPort, publicPorts: [] } as const satisfies Partial<VmRow>;

export function toIngress({ host, httpPort, publicPorts }: VmRow): Ingress {
  return { host: host ?? "", port: httpPort, publicPorts: [...publicPorts] };
}

/** Null for an empty one. Throws `invalid`. */
export function checkHost(host: string): string | null {
  if (host === "") return null;
  if (host.length > maxHostLength)
    throw invalid("ingress.host", `has at most ${maxHostLength} letters, so that a port can stand before it`);
  if (isUuid(host)) throw invalid("ingress.host", "looks like a VM's id, which is a name of that VM alone");
  return checkName(host, "ingress.host");
}

/** Each once, in order. Throws `invalid`. */
export function checkPublicPorts(ports: readonly number[]): number[] {
  const known = [...new Set(ports)].toSorted((one, other) => one - other);
  if (known.length > maxPublicPorts) throw invalid("ingress.public_ports", `has ${known.length} ports; the limit is ${maxPublicPorts}`);
  for (const port of known) checkPort(port, "ingress.public_ports");
  return known;
}

export function checkPort(port: number, field: string): number {
  if (port < 1 || port > 65_535) throw invalid(field, `must be 1 to 65535, got ${port}`);
  return port;
}

/**
 * A VM that is deleted, or whose life is over, is reached by nobody; when it is brought back, what it was to the world is chosen anew. Its
 * name rests, as every name that is given up: the database keeps it for the VM's project.
 */
export function withdraw(row: VmRow): void {
  row.host = null;
  row.publicPorts = [];
}

/** What {@link withdraw} takes away, in a person's words. */
export function reachOf({ name, host, publicPorts }: VmRow): string[] {
  return [
    ...(host === null || host === undefined ? [] : [`the host ${host} of the VM ${name}`]),
    ...(publicPorts.length === 0 ? [] : [`that the ports ${publicPorts.join(", ")} of the VM ${name} are open to everybody`]),
  ];
}

/** In the same words whether the name is another VM's or rests. */
export function hostTaken(host: string): PitwallError {
  return new PitwallError(
    "exists",
    `ingress.host: ${host} is the name of another VM, or was one's in another project not long ago; choose another one`,
    {
      reason: "HOST_TAKEN",
      field: "ingress.host",
    },
  );
}
