// As whom one may act inside a project's VMs, by role. No I/O.
import { invalid } from "@pitwall/runtime";
import type { ProjectRow } from "../store/entities.ts";
import type { ProjectRole } from "./principal.ts";

/** Names of users in VMs, or `*` alone: everybody. */
export type Logins = readonly string[];

export const everybody: Logins = ["*"];
const maxLogins = 32;
/** Which the SSH door can say, too. */
const loginName = /^[A-Za-z_][A-Za-z0-9_.-]{0,31}$/;

export function isLoginName(text: string): boolean {
  return loginName.test(text);
}

/** Those of a role that may enter VMs. */
export function loginsOf({ memberLogins, ownerLogins }: Pick<ProjectRow, "memberLogins" | "ownerLogins">, role: ProjectRole): Logins {
  return role === "owner" ? ownerLogins : memberLogins;
}

export function isUnlimited(logins: Logins): boolean {
  return logins.includes("*");
}

export function mayBe(logins: Logins, user: string): boolean {
  return isUnlimited(logins) || logins.includes(user);
}

/** Who somebody is that does not say. */
export function usualLogin(logins: Logins): string {
  return mayBe(logins, "root") ? "root" : (logins[0] ?? "root");
}

/** As they are kept. Throws `invalid` naming the field. */
export function checkLogins(names: Logins, field: string): Logins {
  if (names.length === 0) throw invalid(field, "names nobody: give names of users, or * for everybody");
  if (names.length > maxLogins) throw invalid(field, `holds ${names.length} names; the limit is ${maxLogins}`);
  if (names.includes("*")) {
    if (names.length > 1) throw invalid(field, "has names beside *, which is everybody");
    return everybody;
  }
  for (const [at, name] of names.entries())
    if (!isLoginName(name))
      throw invalid(`${field}[${at}]`, "must be a user's name: a letter or _, then letters, digits, _, - and dots, at most 32 in all");
  return [...new Set(names)];
}
