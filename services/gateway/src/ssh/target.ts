// What an SSH user name asks for.
import type { Caller } from "@pitwall/proto/pitwall/v1/access.ts";
import type { PitwallError } from "@pitwall/runtime";

/** A VM, and the user in it. */
export interface SshTarget {
  /** A reference as controllers take it. */
  readonly vm: string;
  /** Empty where none is said. */
  readonly user: string;
}

/** Who came in, by which key, for which VM. */
export interface Login {
  /** `ssh-ed25519 AAAA…`, proven. */
  readonly publicKey: string;
  /** As a controller is told: that key, or a certificate of it. */
  readonly caller: Caller;
  /** Whose connection it is, as controllers say: of a key that was given with a VM, whose VM. */
  readonly subject: string;
  /** The VM; or, on a connection that only leads on to others, what is said to one who wants more of it. */
  readonly target: SshTarget | PitwallError;
  /** What its certificate lets it have at the door; a plain key has everything. */
  readonly permits: Permits;
}

export interface Permits {
  readonly pty: boolean;
  readonly forwards: boolean;
}

const label = "[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?";
const id = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}";
const pattern = new RegExp(`^(?:([A-Za-z_][A-Za-z0-9_.-]{0,31})\\+)?(?:(${id})|(${label})\\.(${label})|((?:${label}/)?${label}))$`);

/**
 * `NAME` is the usual user of that VM, root or whom its project has in place of it; `USER+NAME` is USER in it. `NAME.PROJECT`, which scp and
 * host names allow, and `PROJECT/NAME` are of that project. Undefined when it is none of these.
 */
export function parseTarget(text: string): SshTarget | undefined {
  const [whole, user = "", uuid, name, project, reference] = pattern.exec(text) ?? [];
  if (whole === undefined) return undefined;
  return { vm: uuid ?? reference ?? `${project}/${name}`, user };
}

/** The user name of a connection that is for `ssh -J` only: no VM is called so. */
export const jumpUser = "jump";
