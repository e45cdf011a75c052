import { expect, it } from "vitest";
import { basicHeader, mayAuthorize, parseDockerConfig } from "./credentials.ts";

const base64 = (text: string): string => Buffer.from(text).toString("base64");

it("reads each form that docker login writes", async () => {
  const find = parseDockerConfig(
    JSON.stringify({
      auths: {
        "https://index.docker.io/v1/": { auth: base64("me:pass:word") },
        "example.com:5000": { username: "u", password: "p" },
        "ghcr.io": { auth: base64("u:"), identitytoken: "refresh" },
        "quay.io": { registrytoken: "ready" },
        "empty.example.com": {},
      },
      credsStore: "desktop",
    }),
  );
  expect(await find("registry-1.docker.io")).toEqual({ kind: "password", username: "me", password: "pass:word" });
  expect(await find("example.com:5000")).toEqual({ kind: "password", username: "u", password: "p" });
  expect(await find("ghcr.io")).toEqual({ kind: "refresh-token", token: "refresh" });
  expect(await find("quay.io")).toEqual({ kind: "bearer", token: "ready" });
  expect(await find("empty.example.com")).toBeUndefined();
  expect(await find("example.com")).toBeUndefined();
});

it("says nothing of a text that it cannot read", () => {
  for (const text of ["secret", '{"auths": "secret"}', "null"]) {
    expect(() => parseDockerConfig(text)).toThrow("the registry credentials are not in the format of ~/.docker/config.json");
  }
});

it("writes user names and passwords of any alphabet", () => {
  expect(basicHeader({ username: "zoë", password: "pä:ß" })).toBe(`Basic ${base64("zoë:pä:ß")}`);
});

it.each([
  ["ghcr.io", "https://ghcr.io/token", true],
  ["example.com:5000", "https://example.com:5001/auth", true],
  ["registry.gitlab.com", "https://gitlab.com/jwt/auth", true],
  ["registry-1.docker.io", "https://auth.docker.io/token", true],
  ["registry-1.docker.io", "https://docker.io/token", false],
  ["registry.example.com", "https://evil.com/token", false],
  ["registry.example.com", "https://com/token", false],
  ["registry.example.com", "https://auth.example.com/token", false],
  ["registry.example.com", "https://notexample.com/token", false],
  ["example.com", "https://registry.example.com/token", false],
  ["1.2.3.4", "https://3.4/token", false],
  ["127.0.0.1:5000", "https://127.0.0.2/token", false],
])("decides whether the credential of %s may go to %s", (registry, realm, expected) => {
  expect(mayAuthorize(registry, new URL(realm))).toBe(expected);
});
