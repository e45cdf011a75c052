// Roles in a project, in people's words.
import { ProjectRole } from "@pitwall/sdk";

const roles = {
  viewer: ProjectRole.PROJECT_ROLE_VIEWER,
  member: ProjectRole.PROJECT_ROLE_MEMBER,
  owner: ProjectRole.PROJECT_ROLE_OWNER,
} as const;

export type RoleWord = keyof typeof roles;
export const roleWords = ["viewer", "member", "owner"] as const satisfies readonly RoleWord[];

export function roleOf(word: RoleWord): ProjectRole {
  return roles[word];
}

/** `-` for an administrator without a role. */
export function roleWord(role: ProjectRole): string {
  return roleWords.find((word) => roles[word] === role) ?? "-";
}
