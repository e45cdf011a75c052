import { expect, it } from "vitest";
import { digestOfApiToken, hasDigest, isApiToken, makeApiToken, parseApiToken } from "./api-token.ts";

it("is found again in a header, whatever the case of the scheme", () => {
  const token = makeApiToken();
  expect(token.text).toMatch(/^pwt_[0-9a-f]{16}_[A-Za-z0-9_-]{43}$/);
  expect(parseApiToken(`Bearer ${token.text}`)).toEqual(token);
  expect(parseApiToken(`bearer ${token.text}`)).toEqual(token);
  expect(makeApiToken().text).not.toBe(token.text);
});

it("is proven by its digest alone", () => {
  const token = makeApiToken();
  const digest = digestOfApiToken(token);
  expect(digest).toMatch(/^[0-9a-f]{64}$/);
  expect(hasDigest(token, digest)).toBe(true);
  expect(hasDigest(makeApiToken(), digest)).toBe(false);
  expect(hasDigest(token, digest.slice(0, 62))).toBe(false);
  expect(hasDigest(token, "")).toBe(false);
});

it.each(["Bearer pwt_", "Bearer pwt_0_x", "Bearer pwt_../x", `Bearer pwt_${"0".repeat(16)}_${"a".repeat(42)}`, "Basic pwt"])(
  "%s is none, and the first of them are still not for a JWT's verifier",
  (header) => {
    expect(parseApiToken(header)).toBeUndefined();
    expect(isApiToken(header)).toBe(header.startsWith("Bearer"));
  },
);

it("a JWT is not taken for one", () => {
  expect(isApiToken("Bearer eyJhbGciOiJFUzI1NiJ9.e30.x")).toBe(false);
  expect(isApiToken(undefined)).toBe(false);
});
