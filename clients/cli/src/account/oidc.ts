// The OIDC issuer: sign-in by device flow (RFC 8628), renewal and revocation. All of the protocol is openid-client's.
import * as client from "openid-client";
import { CliError } from "../failure.ts";
import type { Account } from "./credentials.ts";
import { isLoopback } from "./endpoint.ts";

/** Asked for as far as the issuer offers them: `offline_access` is what brings a refresh token. */
const wantedScopes = ["openid", "profile", "offline_access", "pitwall"];
const requestLimitSeconds = 15;
/** Where the issuer does not say how long a token is good. */
const assumedLifeSeconds = 300;

export interface IssuerAddress {
  readonly issuer: string;
  readonly clientId: string;
}

/** What the user has to do in a browser. */
export interface DeviceCode {
  readonly url: string;
  readonly code: string;
  /** The page with the code filled in, where the issuer has one. */
  readonly completeUrl: string | undefined;
  readonly validSeconds: number;
}

/** Shows the user a code and waits until it has been entered. Throws a sentence when that is refused or takes too long. */
export async function signIn(address: IssuerAddress, present: (code: DeviceCode) => void, signal: AbortSignal): Promise<Account> {
  const issuer = await connect(address);
  const offered = issuer.serverMetadata().scopes_supported;
  const scope = wantedScopes.filter((name) => offered?.includes(name) ?? name !== "pitwall").join(" ");
  try {
    const device = await client.initiateDeviceAuthorization(issuer, { scope });
    present({
      url: device.verification_uri,
      code: device.user_code,
      completeUrl: device.verification_uri_complete,
      validSeconds: device.expires_in,
    });
    return toAccount(address, await client.pollDeviceAuthorizationGrant(issuer, device, undefined, { signal }));
  } catch (error) {
    signal.throwIfAborted();
    throw explained(error, address.issuer);
  }
}

/** New tokens for an account that has a refresh token. The old ones are worth nothing afterwards. */
export async function renew(account: Account & { readonly refreshToken: string }): Promise<Account> {
  const issuer = await connect(account);
  try {
    const tokens = await client.refreshTokenGrant(issuer, account.refreshToken);
    return toAccount(account, tokens, account.refreshToken);
  } catch (error) {
    throw explained(error, account.issuer);
  }
}

/** Tells the issuer that a refresh token is done with, where it takes such a notice. */
export async function revoke(account: Account): Promise<void> {
  if (account.refreshToken === undefined) return;
  const issuer = await connect(account);
  if (issuer.serverMetadata().revocation_endpoint !== undefined) await client.tokenRevocation(issuer, account.refreshToken);
}

async function connect({ issuer, clientId }: IssuerAddress): Promise<client.Configuration> {
  const url = URL.canParse(issuer) ? new URL(issuer) : undefined;
  const isPlain = url?.protocol === "http:";
  if (!url || (url.protocol !== "https:" && !isPlain))
    throw new CliError(`the gateway names an issuer that is no address: ${JSON.stringify(issuer)}`);
  if (isPlain && !isLoopback(url.hostname)) {
    throw new CliError(
      `the issuer ${issuer} is not encrypted: its tokens could be read on the way, so it must be https, or http on this machine`,
    );
  }
  try {
    // oxlint-disable-next-line typescript/no-deprecated -- marked so to make it stand out: it is for this machine's own issuer alone
    const execute = isPlain ? [client.allowInsecureRequests] : [];
    const options = { timeout: requestLimitSeconds, execute };
    return await client.discovery(url, clientId, undefined, client.None(), options);
  } catch (cause) {
    throw new CliError(`the issuer ${issuer} does not answer as an OIDC issuer does`, { cause });
  }
}

function toAccount({ issuer, clientId }: IssuerAddress, tokens: client.TokenEndpointResponse, formerRefreshToken?: string): Account {
  const refreshToken = tokens.refresh_token ?? formerRefreshToken;
  const expiresMs = Date.now() + (tokens.expires_in ?? assumedLifeSeconds) * 1000;
  return { issuer, clientId, accessToken: tokens.access_token, expiresMs, ...(refreshToken !== undefined && { refreshToken }) };
}

/** Error codes of RFC 6749 section 5.2 and RFC 8628 section 3.5. */
function explained(cause: unknown, issuer: string): CliError {
  const code = cause instanceof client.ResponseBodyError ? cause.error : "";
  if (code === "access_denied") return new CliError("the sign-in was refused in the browser");
  if (code === "expired_token" || isTimeout(cause)) return new CliError("nobody entered the code in time: run `pitwall login` again");
  if (code === "invalid_grant") return new CliError("your sign-in has ended: sign in again with `pitwall login`");
  if (cause instanceof client.ResponseBodyError) return new CliError(`the issuer ${issuer} refuses: ${cause.error_description ?? code}`);
  return new CliError(`the issuer ${issuer} does not answer`, { cause });
}

function isTimeout(error: unknown): boolean {
  return error instanceof Error && (error.name === "TimeoutError" || error.name === "AbortError");
}
