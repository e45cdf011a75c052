// What pitwall port-forward is told: which local port leads to which one of the VM. No I/O.
import { InvalidArgumentError } from "commander";

export interface Forward {
  /** 0: any that is free. */
  readonly local: number;
  readonly remote: number;
}

/** `REMOTE`, `LOCAL:REMOTE` or `:REMOTE`. Throws `InvalidArgumentError`. */
export function parseForward(text: string): Forward {
  const [, local, remote = ""] = /^(?:(\d{0,5}):)?(\d{1,5})$/.exec(text) ?? [];
  const forward = { local: Number(local ?? remote), remote: Number(remote) };
  if (forward.remote < 1 || forward.remote > 65_535 || forward.local > 65_535)
    throw new InvalidArgumentError(`Expected PORT, LOCAL:PORT or :PORT, of 1 to 65535 each, got ${JSON.stringify(text.slice(0, 40))}.`);
  return forward;
}

/** One port. Throws `InvalidArgumentError`. */
export function parsePort(text: string): number {
  const port = /^\d{1,5}$/.test(text) ? Number(text) : 0;
  if (port < 1 || port > 65_535) throw new InvalidArgumentError("Expected a port, 1 to 65535.");
  return port;
}
