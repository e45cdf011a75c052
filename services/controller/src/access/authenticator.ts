// Turns what a caller presents into a principal.
import type { Verifier } from "@pitwall/auth";
import type { Principal } from "../projects/principal.ts";
import type { Projects } from "../projects/projects.ts";

export class Authenticator {
  readonly #verifier: Verifier;
  readonly #admins: ReadonlySet<string>;
  readonly #projects: Projects;

  /** `admins` are subjects. */
  constructor(parts: { verifier: Verifier; admins: readonly string[]; projects: Projects }) {
    this.#verifier = parts.verifier;
    this.#admins = new Set(parts.admins);
    this.#projects = parts.projects;
  }

  /** Of an `authorization` header. Throws `unauthenticated`. */
  async authenticate(authorization: string | undefined): Promise<Principal> {
    const { subject, claims } = await this.#verifier.verify(authorization);
    const preferred = claims["preferred_username"];
    const username = typeof preferred === "string" ? preferred : "";
    await this.#projects.welcome({ subject, username });
    return { subject, username, isAdmin: this.#admins.has(subject), token: undefined };
  }
}
