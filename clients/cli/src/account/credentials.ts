// What a sign-in leaves behind, as text: one account per endpoint, and which endpoint is the current one. No I/O.
import { CliError } from "../failure.ts";

export interface Account {
  readonly issuer: string;
  readonly clientId: string;
  readonly accessToken: string;
  /** Milliseconds since the epoch. */
  readonly expiresMs: number;
  /** Absent when the issuer gave none: then the sign-in ends with the access token. */
  readonly refreshToken?: string;
}

export interface Credentials {
  readonly current?: string;
  readonly accounts: Readonly<Record<string, Account>>;
}

export const noCredentials: Credentials = { accounts: {} };

/** Adds or replaces an endpoint's account and makes it the current one. */
export function withAccount({ accounts }: Credentials, endpoint: string, account: Account): Credentials {
  return { current: endpoint, accounts: { ...accounts, [endpoint]: account } };
}

/** Forgets an endpoint; another one is current only when somebody chooses it. */
export function withoutAccount({ current, accounts }: Credentials, endpoint: string): Credentials {
  const rest = Object.fromEntries(Object.entries(accounts).filter(([name]) => name !== endpoint));
  return { ...(current !== undefined && current !== endpoint && { current }), accounts: rest };
}

export function formatCredentials(credentials: Credentials): string {
  return `${JSON.stringify({ version: 1, ...credentials }, null, 2)}\n`;
}

/** Throws when the text is not what {@link formatCredentials} writes. `file` is for the words of the refusal. */
export function parseCredentials(text: string, file: string): Credentials {
  const value = parseJson(text);
  if (!isRecord(value) || value["version"] !== 1 || !isRecord(value["accounts"]) || !isOptionalText(value["current"])) {
    throw new CliError(`${file} is damaged, or of a newer version: remove it and sign in again with \`pitwall login\``);
  }
  const accounts = Object.entries(value["accounts"]).flatMap(([endpoint, account]) =>
    isAccount(account) ? [[endpoint, account] as const] : [],
  );
  return { ...(value["current"] !== undefined && { current: value["current"] }), accounts: Object.fromEntries(accounts) };
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null;
}

function isOptionalText(value: unknown): value is string | undefined {
  return value === undefined || typeof value === "string";
}

function isAccount(value: unknown): value is Account {
  if (!isRecord(value) || typeof value["expiresMs"] !== "number" || !isOptionalText(value["refreshToken"])) return false;
  return ["issuer", "clientId", "accessToken"].every((name) => typeof value[name] === "string");
}
