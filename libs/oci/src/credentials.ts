// Who signs in where. Passwords and tokens live in these values alone: they are never logged and never part of an error.
import { z } from "zod";
import { malformed } from "./image-error.ts";

/** A refresh token is what `docker login` calls an identity token. */
export type Credential =
  | { readonly kind: "password"; readonly username: string; readonly password: string }
  | { readonly kind: "refresh-token"; readonly token: string }
  | { readonly kind: "bearer"; readonly token: string };

/** The credential for a registry, `host` or `host:port`; undefined for none. */
export type CredentialsFor = (host: string) => Promise<Credential | undefined>;

/** The header of a password (RFC 7617). */
export function basicHeader({ username, password }: { username: string; password: string }): string {
  return `Basic ${Buffer.from(`${username}:${password}`, "utf8").toString("base64")}`;
}

/**
 * Whether the credential of `registry` may go to the token service `realm` that it names. That is its own host, one above it in the
 * name (which could take the name away anyway), and the one service of Docker Hub. Other services need a credential of their own.
 */
export function mayAuthorize(registry: string, realm: URL): boolean {
  const own = new URL(`https://${registry}`).hostname;
  const theirs = realm.hostname;
  if (own === "registry-1.docker.io") return theirs === "auth.docker.io";
  return theirs === own || (theirs.includes(".") && !/^[\d.]+$/.test(theirs) && own.endsWith(`.${theirs}`));
}

const entry = z.object({
  auth: z.string().optional(),
  username: z.string().optional(),
  password: z.string().optional(),
  identitytoken: z.string().optional(),
  registrytoken: z.string().optional(),
});
const dockerConfig = z.object({ auths: z.record(z.string(), entry).optional() });

/** Reads the text of `~/.docker/config.json`. Credential helpers are not run. Throws `corrupt`, without a word of the text. */
export function parseDockerConfig(text: string): CredentialsFor {
  let auths: Record<string, z.output<typeof entry>>;
  try {
    auths = dockerConfig.parse(JSON.parse(text)).auths ?? {};
  } catch {
    throw malformed("the registry credentials are not in the format of ~/.docker/config.json");
  }
  return credentialsOf(
    Object.entries(auths).flatMap(([name, value]) => {
      const credential = toCredential(value);
      return credential ? [[name, credential] as const] : [];
    }),
  );
}

/** Of registries as `docker login` names them; of two for one registry the last counts. */
export function credentialsOf(list: Iterable<readonly [registry: string, credential: Credential]>): CredentialsFor {
  const found = new Map<string, Credential>();
  for (const [name, credential] of list) found.set(hostOf(name), credential);
  return async (host) => found.get(host);
}

function toCredential({ auth, username, password, identitytoken, registrytoken }: z.output<typeof entry>): Credential | undefined {
  if (registrytoken) return { kind: "bearer", token: registrytoken };
  if (identitytoken) return { kind: "refresh-token", token: identitytoken };
  if (username !== undefined && password !== undefined) return { kind: "password", username, password };
  const pair = Buffer.from(auth ?? "", "base64").toString("utf8");
  const colon = pair.indexOf(":");
  return colon <= 0 ? undefined : { kind: "password", username: pair.slice(0, colon), password: pair.slice(colon + 1).replace(/\0+$/, "") };
}

/** Keys are hosts, or URLs of API version 1; Docker Hub's is one of those. */
function hostOf(name: string): string {
  const host = name
    .replace(/^https?:\/\//, "")
    .replace(/\/.*$/, "")
    .toLowerCase();
  return host === "index.docker.io" || host === "docker.io" ? "registry-1.docker.io" : host;
}
