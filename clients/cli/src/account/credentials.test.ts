import { expect, test } from "vitest";
import { formatCredentials, noCredentials, parseCredentials, withAccount, withoutAccount, type Account } from "./credentials.ts";

const account: Account = { issuer: "https://sso", clientId: "pitwall-cli", accessToken: "a", expiresMs: 5, refreshToken: "r" };
const two = withAccount(withAccount(noCredentials, "https://a", account), "https://b", account);

test("the endpoint signed in to last is the current one", () => {
  expect(two.current).toBe("https://b");
  expect(Object.keys(two.accounts)).toEqual(["https://a", "https://b"]);
});

test("forgetting the current endpoint chooses no other", () => {
  expect(withoutAccount(two, "https://b")).toEqual({ accounts: { "https://a": account } });
  expect(withoutAccount(two, "https://a").current).toBe("https://b");
});

test("what is written is read back", () => {
  expect(parseCredentials(formatCredentials(two), "f")).toEqual(two);
  expect(parseCredentials(formatCredentials(noCredentials), "f")).toEqual(noCredentials);
});

test("a damaged file says what to do", () => {
  for (const text of ["", "{", "[]", "{}", '{"version":2,"accounts":{}}', '{"version":1,"accounts":{},"current":3}']) {
    expect(() => parseCredentials(text, "/c/credentials.json")).toThrow("/c/credentials.json is damaged, or of a newer version: remove it");
  }
});

test("an account that lacks something counts as not signed in", () => {
  expect(parseCredentials('{"version":1,"accounts":{"https://a":{"issuer":"i"}}}', "f")).toEqual(noCredentials);
});
