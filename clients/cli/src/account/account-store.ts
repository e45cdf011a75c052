// Sign-ins on disk, and access tokens that are good now.
import { join } from "node:path";
import { CliError } from "../failure.ts";
import { configFolder, lockFolder, readIfThere, replaceFile } from "./config-folder.ts";
import { formatCredentials, noCredentials, parseCredentials, withAccount, type Account, type Credentials } from "./credentials.ts";

/** A token that ends sooner is renewed first, so that it does not end on its way. */
const renewBeforeMs = 20_000;

export interface AccountStore {
  read(): Promise<Credentials>;
  /** Reads, changes and writes under the folder's lock. */
  change(change: (before: Credentials) => Credentials): Promise<void>;
  /** An access token for an endpoint, renewed where needed. Throws when nobody is signed in there, or no longer. */
  token(endpoint: string): Promise<string>;
}

export function openAccountStore(env: Readonly<Record<string, string | undefined>>, signal: AbortSignal): AccountStore {
  const folder = configFolder(env);
  const file = join(folder, "credentials.json");

  async function read(): Promise<Credentials> {
    const text = await readIfThere(file);
    return text === undefined ? noCredentials : parseCredentials(text, file);
  }

  async function renewed(endpoint: string): Promise<string> {
    await using _lock = await lockFolder(folder, signal);
    const credentials = await read(); // another process may have renewed it meanwhile
    const account = accountOf(credentials, endpoint);
    if (isFresh(account)) return account.accessToken;
    const { refreshToken } = account;
    if (refreshToken === undefined)
      throw new CliError(`your sign-in to ${endpoint} has ended: sign in again with \`pitwall login ${endpoint}\``);
    const { renew } = await import("./oidc.ts");
    const next = await renew({ ...account, refreshToken });
    const { current = endpoint } = credentials;
    await replaceFile(file, formatCredentials({ ...withAccount(credentials, endpoint, next), current }));
    return next.accessToken;
  }

  return {
    read,
    async change(change) {
      await using _lock = await lockFolder(folder, signal);
      await replaceFile(file, formatCredentials(change(await read())));
    },
    async token(endpoint) {
      const account = accountOf(await read(), endpoint);
      return isFresh(account) ? account.accessToken : renewed(endpoint);
    },
  };
}

function accountOf({ accounts }: Credentials, endpoint: string): Account {
  const account = accounts[endpoint];
  if (!account) throw new CliError(`you are not signed in to ${endpoint}: sign in with \`pitwall login ${endpoint}\``);
  return account;
}

function isFresh({ expiresMs }: Account): boolean {
  return expiresMs - Date.now() > renewBeforeMs;
}
