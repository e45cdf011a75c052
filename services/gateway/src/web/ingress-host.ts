// Which VM, and which of its ports, the host of a request names below the ingress domain. No I/O.
//
// `HOST.DOMAIN` and `PORT-HOST.DOMAIN`: one label, so that one certificate for `*.DOMAIN` is enough. HOST is a name that a VM was given, unique in
// the installation, or a VM's id: a browser's origin must not be one VM for one user and another VM for the next.

export interface IngressHost {
  /** A VM's id, or its name below the domain. */
  readonly host: string;
  /** 0: the VM's usual one. */
  readonly port: number;
}

const uuid = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}";
const form = new RegExp(`^(?:${uuid}|(?:(?<port>[1-9]\\d{0,4})-)?(?<host>${uuid}|[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?))$`);

/** Of `host` or `:authority`. Undefined: it is not below the domain. Null: it is, and names nothing; the gateway's own API is not there either. */
export function ingressHost(authority: string, domain: string): IngressHost | null | undefined {
  const [name = "", ...rest] = authority.toLowerCase().split(":");
  const plain = name.endsWith(".") ? name.slice(0, -1) : name;
  if (!plain.endsWith(`.${domain}`)) return undefined;
  // With a dot at its end it is another origin to a browser, of which nobody has let anybody in.
  if (plain !== name || rest.length > 1) return null;
  const label = plain.slice(0, -domain.length - 1);
  const { groups } = form.exec(label) ?? {};
  if (!groups) return null;
  const port = Number(groups["port"] ?? 0);
  return port > 65_535 ? null : { host: groups["host"] ?? label, port };
}
