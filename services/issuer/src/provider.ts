// The OIDC provider: three clients, users by name alone, access tokens as JWTs for one audience.
import Provider, { type Configuration } from "oidc-provider";
import { MemoryAdapter } from "./memory.ts";
import type { Secrets } from "./secrets.ts";

const hour = 3600;
/** RFC 8707 wants a URI; the audience inside the token is the configured word. */
const resource = "urn:pitwall:api";

/** `issuer` is the URL it is reached by. */
export function makeProvider(issuer: string, audience: string, secrets: Secrets): Provider {
  const configuration: Configuration = {
    adapter: MemoryAdapter,
    jwks: { keys: [secrets.signingKey] },
    cookies: { keys: [secrets.cookieKey] },
    clientDefaults: { id_token_signed_response_alg: "ES256" },
    clients: [
      {
        client_id: "pitwall-cli",
        application_type: "native",
        token_endpoint_auth_method: "none",
        grant_types: ["urn:ietf:params:oauth:grant-type:device_code", "authorization_code", "refresh_token"],
        response_types: ["code"],
        redirect_uris: ["http://127.0.0.1/callback"],
      },
      {
        client_id: "pitwall-quickstart",
        client_secret: secrets.clientSecret,
        grant_types: ["client_credentials"],
        response_types: [],
        redirect_uris: [],
      },
    ],
    claims: { openid: ["sub"], profile: ["preferred_username"] },
    findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id, preferred_username: id }) }),
    features: {
      devInteractions: { enabled: true },
      deviceFlow: { enabled: true },
      clientCredentials: { enabled: true },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => resource,
        useGrantedResource: () => true,
        getResourceServerInfo: (_, __, client) => ({
          scope: "pitwall",
          audience,
          accessTokenFormat: "jwt",
          accessTokenTTL: client.clientId === "pitwall-quickstart" ? 12 * hour : hour,
          jwt: { sign: { alg: "ES256" } },
        }),
      },
    },
    scopes: ["openid", "profile", "offline_access", "pitwall"],
    formats: {
      // A client's own token speaks for the developer who started everything.
      customizers: {
        jwt: (_, token, jwt) => {
          if (token.kind === "ClientCredentials") jwt.payload["sub"] = "dev";
        },
      },
    },
    ttl: { Session: 12 * hour, Grant: 24 * 14 * hour, RefreshToken: 24 * 14 * hour, DeviceCode: 600, Interaction: hour, IdToken: hour },
    pkce: { required: () => true },
    renderError: (context, out) => {
      context.type = "text/plain";
      context.body = `${out.error}: ${out.error_description ?? ""}\n`;
    },
  };
  return new Provider(issuer, configuration);
}
