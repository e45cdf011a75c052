// pitwall logout: forgets a sign-in here, and at the issuer where that can be done.
import type { Command } from "commander";
import { openAccountStore } from "../account/account-store.ts";
import { withoutAccount } from "../account/credentials.ts";
import { chooseEndpoint } from "../account/endpoint.ts";
import { withEndpoint, type EndpointOption } from "../account/session.ts";
import { messageChain } from "../failure.ts";
import { plain } from "../output/terminal-text.ts";
import type { Shell } from "../shell.ts";

export function declare(command: Command, shell: Shell): void {
  withEndpoint(command)
    .description("Signs out of a gateway: removes its tokens from this machine and revokes them where the issuer can.")
    .action(async (options: EndpointOption) => logout(shell, options));
}

async function logout({ env, note, signals }: Shell, { endpoint: flag }: EndpointOption): Promise<void> {
  const store = openAccountStore(env, signals.signal);
  const { current, accounts } = await store.read();
  const endpoint = chooseEndpoint(flag, env["PITWALL_ENDPOINT"], current);
  const account = accounts[endpoint];
  if (!account) return note(`you were not signed in to ${endpoint}`);
  await store.change((before) => withoutAccount(before, endpoint));
  const { revoke } = await import("../account/oidc.ts");
  await revoke(account).catch((error: unknown) => note(`the issuer was not told: ${plain(messageChain(error))}`));
  note(`signed out of ${endpoint}`);
}
