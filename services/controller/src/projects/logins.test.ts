import { expect, it, test } from "vitest";
import { checkLogins, isUnlimited, loginsOf, mayBe, usualLogin } from "./logins.ts";

test("who says no name is root where that may be, and the first of the names otherwise", () => {
  expect(["*", "root"].map((name) => usualLogin([name]))).toEqual(["root", "root"]);
  expect(usualLogin(["dev", "root"])).toBe("root");
  expect(usualLogin(["dev", "ops"])).toBe("dev");
});

test("a name is allowed when it is listed, as it is spelled, or when all are", () => {
  expect([mayBe(["*"], "dev"), mayBe(["dev"], "dev"), mayBe(["dev"], "Dev"), mayBe(["dev"], "root")]).toEqual([true, true, false, false]);
  expect([isUnlimited(["*"]), isUnlimited(["root"])]).toEqual([true, false]);
});

test("owners have their own list, and whoever else may enter has that of members", () => {
  const project = { memberLogins: ["dev"], ownerLogins: ["*"] };
  expect([loginsOf(project, "owner"), loginsOf(project, "member"), loginsOf(project, "viewer")]).toEqual([["*"], ["dev"], ["dev"]]);
});

test("a list is kept in its order, each name once", () => {
  expect(checkLogins(["ops", "dev", "ops"], "f")).toEqual(["ops", "dev"]);
  expect(checkLogins(["*"], "f")).toEqual(["*"]);
});

it.each([
  [[], "f: names nobody: give names of users, or * for everybody"],
  [["*", "dev"], "f: has names beside *, which is everybody"],
  [["dev", "a+b"], "f[1]: must be a user's name: a letter or _, then letters, digits, _, - and dots, at most 32 in all"],
  [["0"], "f[0]: must be a user's name: a letter or _, then letters, digits, _, - and dots, at most 32 in all"],
  [Array.from({ length: 33 }, (_, at) => `u${at}`), "f: holds 33 names; the limit is 32"],
])("%j is refused", (names, message) => expect(() => checkLogins(names, "f")).toThrow(message));
