import { ProjectRole } from "@pitwall/sdk";
import { expect, it } from "vitest";
import { roleOf, roleWord, roleWords } from "./role.ts";

it("roles have a word each", () => {
  for (const word of roleWords) expect(roleWord(roleOf(word))).toBe(word);
  expect(roleWord(ProjectRole.PROJECT_ROLE_UNSPECIFIED)).toBe("-");
});
