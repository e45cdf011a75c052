// What an SSH user name asks for.
import type { Caller } from "@pitwall/proto/pitwall/v1/access.ts";

/** A VM, and the user in it; no VM for a connection that only jumps. */
export interface SshTarget {
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
  /** Undefined on a connection that only jumps. */
  readonly target: SshTarget | undefined;
}

const name = "[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}";
const pattern = new RegExp(`^(?:([A-Za-z_][A-Za-z0-9_.-]{0,31})\\+)?(${name})$`);

/** `NAME` is the usual user of that VM, root or whom its project has in place of it; `USER+NAME` is USER in it. Undefined when it is neither. */
export function parseTarget(username: string): SshTarget | undefined {
  const [, user = "", vm] = pattern.exec(username) ?? [];
  return vm === undefined ? undefined : { vm, user };
}

/** The user name of a connection that is for `ssh -J` only. */
export const jumpUser = "jump";
