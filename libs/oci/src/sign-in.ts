// Getting leave to read one repository: anonymous, with a password, or with a token from the service that the registry names
// (distribution-spec, "token authentication"). What was got is kept until the registry wants another.
import { PitwallError } from "@pitwall/runtime";
import { z } from "zod";
import { parseChallenges, type Challenge } from "./challenge.ts";
import { basicHeader, mayAuthorize, type Credential, type CredentialsFor } from "./credentials.ts";
import { Flights } from "./flights.ts";
import type { Ask, Transport } from "./transport.ts";

const tokenReply = z.object({ token: z.string().optional(), access_token: z.string().optional() });
const maxReplyBytes = 256 * 1024;
/** Bounds of memory: each is some repository that was read from. */
const keptHeaders = 1000;

/** Where a credential is for. */
interface Scope {
  readonly host: string;
  readonly repository: string;
}

/** What leave is asked for. */
export type Actions = "pull" | "pull,push";

export class SignIn {
  readonly #actions: Actions;
  readonly #transport: Transport;
  readonly #credentialsFor: CredentialsFor;
  readonly #headers = new Map<string, string>();
  readonly #flights = new Flights<void>();

  constructor(transport: Transport, credentialsFor: CredentialsFor, actions: Actions = "pull") {
    this.#actions = actions;
    this.#transport = transport;
    this.#credentialsFor = credentialsFor;
  }

  /** The `Authorization` header to try; undefined for none. */
  header(scope: Scope): string | undefined {
    return this.#headers.get(keyOf(scope));
  }

  /**
   * Answers a 401 to a request that had the header `used`. Concurrent calls for one repository ask once. Throws `denied` when there is
   * no answer, `unavailable` when the token service is away.
   */
  async answer(scope: Scope, used: string | undefined, challenge: string, signal: AbortSignal): Promise<void> {
    const key = keyOf(scope);
    if (this.#headers.get(key) !== used) return; // another call was faster
    const obtain = async (shared: AbortSignal): Promise<void> => {
      const header = await this.#obtain(scope, used, parseChallenges(challenge), shared);
      const [oldest] = this.#headers.keys();
      if (this.#headers.size >= keptHeaders && oldest !== undefined) this.#headers.delete(oldest);
      this.#headers.set(key, header);
    };
    await this.#flights.join(key, signal, () => undefined, obtain).result;
  }

  async #obtain(scope: Scope, used: string | undefined, challenges: readonly Challenge[], signal: AbortSignal): Promise<string> {
    const credential = await this.#credentialsFor(scope.host);
    if (credential?.kind === "bearer" && used === undefined) return `Bearer ${credential.token}`;
    const bearer = challenges.find(({ scheme, fields }) => scheme === "bearer" && fields.has("realm"));
    if (bearer) return `Bearer ${await this.#token(scope, bearer.fields, credential, signal)}`;
    const basic =
      challenges.some(({ scheme }) => scheme === "basic") && credential?.kind === "password" ? basicHeader(credential) : undefined;
    if (basic === undefined || basic === used) throw denied(scope, credential !== undefined, this.#actions);
    return basic;
  }

  async #token(
    scope: Scope,
    fields: ReadonlyMap<string, string>,
    credential: Credential | undefined,
    signal: AbortSignal,
  ): Promise<string> {
    const realm = fields.get("realm") ?? "";
    if (!URL.canParse(realm)) throw denied(scope, credential !== undefined, this.#actions);
    const url = new URL(realm);
    url.username = "";
    url.password = "";
    const usable = mayAuthorize(scope.host, url) ? credential : await this.#credentialsFor(url.host);
    const reply = await this.#transport.get(url, askFor(url, scope, this.#actions, fields.get("service"), usable), signal);
    const parts: Buffer[] = [];
    let size = 0;
    for await (const chunk of reply.body as AsyncIterable<Buffer>) {
      // The body has no encoding set.
      size += chunk.length;
      if (size > maxReplyBytes) throw denied(scope, usable !== undefined, this.#actions);
      parts.push(chunk);
    }
    const parsed = tokenReply.safeParse(parseText(Buffer.concat(parts).toString("utf8")));
    const token = parsed.data?.token ?? parsed.data?.access_token;
    if (reply.status >= 500 || reply.status === 429) {
      throw new PitwallError("unavailable", `the sign-in service of the registry ${scope.host} answers ${reply.status}; try again later`, {
        reason: "REGISTRY_BUSY",
      });
    }
    // A token goes into a header: one with other characters is no token (RFC 6750).
    if (reply.status !== 200 || token === undefined || !/^[\x21-\x7e]+$/.test(token))
      throw denied(scope, usable !== undefined, this.#actions);
    return token;
  }
}

/** Adds the query to `url`. */
function askFor(url: URL, { repository }: Scope, actions: Actions, service: string | undefined, credential: Credential | undefined): Ask {
  const wanted = { ...(service !== undefined && { service }), scope: `repository:${repository}:${actions}` };
  if (credential?.kind === "refresh-token") {
    const form = new URLSearchParams({ grant_type: "refresh_token", refresh_token: credential.token, client_id: "pitwall", ...wanted });
    return { headers: { accept: "application/json" }, form };
  }
  for (const [name, value] of Object.entries(wanted)) url.searchParams.set(name, value);
  return { headers: { accept: "application/json", ...(credential?.kind === "password" && { authorization: basicHeader(credential) }) } };
}

function parseText(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

const keyOf = ({ host, repository }: Scope): string => `${host}/${repository}`;

/** The refusal of a repository; registries do not say whether it exists. */
export function denied({ host, repository }: Scope, hasCredential: boolean, actions: Actions = "pull"): PitwallError {
  const verb = actions === "pull" ? "read" : "push to";
  const message = hasCredential
    ? `image: the registry ${host} does not take the credential it was given for ${repository}; check it, and the name`
    : `image: the registry ${host} does not let anybody ${verb} ${repository}; check the name, or add a credential for ${host}`;
  return new PitwallError("denied", message, { reason: "REGISTRY_DENIED", field: "image" });
}
