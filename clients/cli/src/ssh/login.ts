// Who to log in as in a VM: whom the user names, or the first that their role in its project lets them be. No I/O.
import { ProjectRole, type Project } from "@pitwall/sdk";
import { CliError } from "../failure.ts";

/** `asked` is undefined where no name was said. Throws for one that the VM would refuse without saying why. */
export function loginFor({ role, sshLogins }: Pick<Project, "role" | "sshLogins">, vm: string, asked: string | undefined): string {
  const allowed = (role === ProjectRole.PROJECT_ROLE_OWNER ? sshLogins?.owner : sshLogins?.member) ?? [];
  const isFree = allowed.length === 0 || allowed.includes("*"); // a server of the version before has no such lists
  if (asked !== undefined && !isFree && !allowed.includes(asked))
    throw new CliError(`in the VM ${vm} your role lets you log in as ${allowed.join(", ")}, not as ${asked}`);
  return asked ?? (isFree || allowed.includes("root") ? "root" : (allowed[0] ?? "root"));
}
