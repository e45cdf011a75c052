// pitwall login: signs in to a gateway by its issuer's device flow.
import type { Command } from "commander";
import { discover, Pitwall } from "@pitwall/sdk";
import { openAccountStore } from "../account/account-store.ts";
import { withAccount } from "../account/credentials.ts";
import { isLoopback, parseEndpoint } from "../account/endpoint.ts";
import type { DeviceCode } from "../account/oidc.ts";
import { withEndpoint, type EndpointOption } from "../account/session.ts";
import { CliError, messageChain, usageError } from "../failure.ts";
import { plain } from "../output/terminal-text.ts";
import type { Shell } from "../shell.ts";

export function declare(command: Command, shell: Shell): void {
  withEndpoint(command.argument("[url]", "the gateway, as --endpoint; default: the one signed in to last"))
    .description("Signs in to a gateway: shows a code to enter in a browser, on this machine or another, and keeps the tokens.")
    .action(async (url: string | undefined, options: EndpointOption) => login(shell, url, options));
}

async function login(shell: Shell, url: string | undefined, { endpoint: flag }: EndpointOption): Promise<void> {
  const { env, signals } = shell;
  const store = openAccountStore(env, signals.signal);
  if (url !== undefined && flag !== undefined && parseEndpoint(url) !== parseEndpoint(flag))
    throw usageError("two gateways are named: give one");
  const chosen = url ?? flag ?? (env["PITWALL_ENDPOINT"] || (await store.read()).current);
  if (chosen === undefined) throw usageError("which gateway? `pitwall login URL`");
  const endpoint = parseEndpoint(chosen);
  const { protocol, hostname } = new URL(endpoint);
  if (protocol === "http:" && !isLoopback(hostname)) shell.note(`warning: ${endpoint} is not encrypted: your token can be read on the way`);
  const { issuer, clientId } = await discover(endpoint, signals.signal);
  const { signIn } = await import("../account/oidc.ts");
  const account = await signIn({ issuer, clientId }, (code) => present(shell, code), signals.signal);
  const { username, subject } = await new Pitwall({ endpoint, token: account.accessToken }).getProfile().catch((cause: unknown) => {
    throw new CliError(`the issuer let you in, but ${endpoint} does not: ${messageChain(cause)}`);
  });
  await store.change((before) => withAccount(before, endpoint, account));
  shell.note(`signed in to ${endpoint} as ${plain(username || subject)}`);
  if (env["PITWALL_TOKEN"]) shell.note("PITWALL_TOKEN is set, and used instead of this sign-in for as long as it is");
  if (account.refreshToken === undefined) shell.note("the issuer gave no refresh token: this sign-in ends with its access token");
}

function present(shell: Shell, { url, code, completeUrl, validSeconds }: DeviceCode): void {
  shell.note(`To sign in, open\n\n    ${plain(url)}\n\nand enter the code\n\n    ${plain(code)}\n`);
  if (completeUrl !== undefined) shell.note(`or open ${plain(completeUrl)} and compare the code.`);
  shell.note(`Waiting; the code is good for ${Math.max(1, Math.round(validSeconds / 60))} minutes.`);
}
