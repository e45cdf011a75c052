// Who acts: a person, or a program with a token that a person made.

/** What somebody may do in a project, least first. */
export const projectRoles = ["viewer", "member", "owner"] as const;
export type ProjectRole = (typeof projectRoles)[number];

export interface Principal {
  /** Of the issuer's token; with an API token, of the user who made it. */
  readonly subject: string;
  readonly username: string;
  /** May run the fleet, and see every project that they name. */
  readonly isAdmin: boolean;
  /** Set for an API token: it acts in one project, in one role. */
  readonly token: TokenScope | undefined;
}

export interface TokenScope {
  readonly id: string;
  readonly projectId: string;
  readonly role: ProjectRole;
  /** `Service/Method` names; empty: all that the role may. */
  readonly methods: ReadonlySet<string>;
}

export function isAtLeast(role: ProjectRole, least: ProjectRole): boolean {
  return projectRoles.indexOf(role) >= projectRoles.indexOf(least);
}

/** The lesser of the two. */
export function lesser(one: ProjectRole, other: ProjectRole): ProjectRole {
  return isAtLeast(one, other) ? other : one;
}
