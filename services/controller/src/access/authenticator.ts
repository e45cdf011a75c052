// Turns what a caller presents into a principal.
import { claimedSubject, isApiToken, type Verifier } from "@pitwall/auth";
import type { Principal } from "../projects/principal.ts";
import type { Projects } from "../projects/projects.ts";
import type { Tokens } from "../tokens/tokens.ts";

export class Authenticator {
  readonly #verifier: Verifier;
  readonly #admins: ReadonlySet<string>;
  readonly #projects: Projects;
  readonly #tokens: Tokens;

  /** `admins` are subjects. */
  constructor(parts: { verifier: Verifier; admins: readonly string[]; projects: Projects; tokens: Tokens }) {
    this.#verifier = parts.verifier;
    this.#admins = new Set(parts.admins);
    this.#projects = parts.projects;
    this.#tokens = parts.tokens;
  }

  /** Of an `authorization` header. Throws `unauthenticated`. */
  async authenticate(authorization: string | undefined): Promise<Principal> {
    // Before any JWT is thought of: a token of ours is never shown to the issuer's rules, nor the other way round.
    if (authorization !== undefined && isApiToken(authorization)) return this.#tokens.authenticate(authorization);
    const { subject, claims } = await this.#verifier.verify(authorization);
    const preferred = claims["preferred_username"];
    const username = typeof preferred === "string" ? preferred : "";
    await this.#projects.welcome({ subject, username });
    return { subject, username, isAdmin: this.#admins.has(subject), token: undefined };
  }

  /** Of a header that was authenticated when something long began. A JWT is not asked again: it may have expired since. Throws as above. */
  async stillIs(authorization: string): Promise<Principal> {
    if (isApiToken(authorization)) return this.#tokens.authenticate(authorization);
    const subject = claimedSubject(authorization) ?? "";
    return { subject, username: "", isAdmin: this.#admins.has(subject), token: undefined };
  }
}
