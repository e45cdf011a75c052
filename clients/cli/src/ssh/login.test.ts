import { ProjectRole } from "@pitwall/sdk";
import { expect, test } from "vitest";
import { loginFor } from "./login.ts";

const sshLogins = { member: ["dev", "ops"], owner: ["*"] };
const member = { role: ProjectRole.PROJECT_ROLE_MEMBER, sshLogins };
const owner = { role: ProjectRole.PROJECT_ROLE_OWNER, sshLogins };

test("who says no name is root where that may be, and the first of the names otherwise", () => {
  expect(loginFor(owner, "web", undefined)).toBe("root");
  expect(loginFor(member, "web", undefined)).toBe("dev");
  expect(loginFor({ ...member, sshLogins: { member: ["dev", "root"], owner: [] } }, "web", undefined)).toBe("root");
  expect(loginFor({ ...member, sshLogins: undefined }, "web", undefined)).toBe("root");
});

test("a name that the role does not have is refused with those that it has", () => {
  expect(loginFor(member, "web", "ops")).toBe("ops");
  expect(loginFor(owner, "web", "anybody")).toBe("anybody");
  expect(() => loginFor(member, "web", "root")).toThrow("in the VM web your role lets you log in as dev, ops, not as root");
});
