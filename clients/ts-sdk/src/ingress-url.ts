// Addresses of VMs below the gateway's ingress domain. They are reached on the very port that the API is: scheme and port are the endpoint's.
import { discover } from "./discover.ts";

/** Throws when the gateway has no such domain. */
export async function ingressDomain(endpoint: string): Promise<string> {
  const { ingressDomain: domain } = await discover(endpoint);
  if (domain === undefined) throw new Error(`the gateway at ${endpoint} has no domain for VMs (PITWALL_INGRESS_DOMAIN)`);
  return domain;
}

/** `label` is `HOST` or `PORT-HOST`; `path` begins with a slash. */
export function ingressUrl(endpoint: string, domain: string, label: string, path: string): URL {
  const url = new URL(path.replace(/^[/\\]+/, "/"), endpoint);
  url.hostname = `${label}.${domain}`;
  return url;
}
