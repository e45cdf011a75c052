// What a gateway says of itself before anybody signs in.

export interface Discovery {
  readonly issuer: string;
  readonly audience: string;
  readonly clientId: string;
  readonly sshHost: string;
  readonly sshPort: number;
  /** `ssh-ed25519 AAAA…` */
  readonly sshHostKey: string;
  /** Below which VMs have host names; absent: they have none. */
  readonly ingressDomain?: string;
}

const limitMs = 15_000;

/** Throws when nothing that speaks Pitwall is at `endpoint`, or it does not answer within 15 s. */
export async function discover(endpoint: string, signal?: AbortSignal): Promise<Discovery> {
  const url = new URL("/.well-known/pitwall", endpoint);
  const timeout = AbortSignal.timeout(limitMs);
  const response = await fetch(url, { signal: signal ? AbortSignal.any([signal, timeout]) : timeout }).catch((cause: unknown) => {
    signal?.throwIfAborted();
    throw new Error(`no gateway answers at ${endpoint}`, { cause });
  });
  const found: unknown = response.ok ? await response.json().catch(() => undefined) : undefined;
  if (!isDiscovery(found)) throw new Error(`${endpoint} is no Pitwall gateway`);
  return found;
}

function isDiscovery(value: unknown): value is Discovery {
  const fields = { issuer: "string", audience: "string", clientId: "string", sshHost: "string", sshPort: "number", sshHostKey: "string" };
  if (typeof value !== "object" || value === null) return false;
  const domain: unknown = Reflect.get(value, "ingressDomain");
  return (
    Object.entries(fields).every(([name, type]) => typeof Reflect.get(value, name) === type) &&
    (domain === undefined || typeof domain === "string")
  );
}
