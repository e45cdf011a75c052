// A client of the gateway that a command means, as the user who is signed in there.
import { Option, type Command } from "commander";
import { Pitwall, PitwallRpcError } from "@pitwall/sdk";
import { CliError, explainRefusal, type FlagsOfFields } from "../failure.ts";
import { plain } from "../output/terminal-text.ts";
import type { Shell } from "../shell.ts";
import { openAccountStore } from "./account-store.ts";
import { chooseEndpoint } from "./endpoint.ts";

export interface EndpointOption {
  readonly endpoint?: string;
}

/** Declares --endpoint on a command. */
export function withEndpoint(command: Command): Command {
  return command.addOption(new Option("--endpoint <url>", "the gateway; default: PITWALL_ENDPOINT, or the one signed in to last"));
}

export interface Session {
  readonly endpoint: string;
  readonly pitwall: Pitwall;
  /** For what is no call. */
  readonly token: () => Promise<string>;
}

/**
 * Runs `work` with a client; a refusal of the server becomes a sentence. PITWALL_TOKEN is used as it is. `flags` are those of the command that
 * fill another field than elsewhere.
 */
export async function inSession<T>(
  shell: Shell,
  { endpoint: flag }: EndpointOption,
  work: (session: Session) => Promise<T>,
  flags?: FlagsOfFields,
): Promise<T> {
  const { env, signals } = shell;
  const store = openAccountStore(env, signals.signal);
  const isNamed = flag !== undefined || (env["PITWALL_ENDPOINT"] ?? "") !== "";
  const endpoint = chooseEndpoint(flag, env["PITWALL_ENDPOINT"], isNamed ? undefined : (await store.read()).current);
  let hasSaidWhy = false;
  const onRetry = ({ code, message }: PitwallRpcError): void => {
    if (!hasSaidWhy)
      shell.note(`${code === "UNAVAILABLE" ? plain(message) : `${endpoint} does not answer`}; trying again for a few seconds`);
    hasSaidWhy = true;
  };
  const ownToken = env["PITWALL_TOKEN"];
  const token = ownToken ? async () => ownToken : () => store.token(endpoint);
  const session = { endpoint, token, pitwall: new Pitwall({ endpoint, token, onRetry }) };
  try {
    return await work(session);
  } catch (error) {
    throw explained(shell, session, error, flags);
  }
}

/** A server's refusal as a sentence; anything else as it is. */
export function explained({ env }: Shell, { endpoint }: Session, error: unknown, flags?: FlagsOfFields): unknown {
  if (!(error instanceof PitwallRpcError)) return error;
  return new CliError(explainRefusal(error, { endpoint, hasOwnToken: (env["PITWALL_TOKEN"] ?? "") !== "", ...(flags && { flags }) }));
}
