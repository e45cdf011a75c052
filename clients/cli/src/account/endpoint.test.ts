import { describe, expect, it, test } from "vitest";
import { chooseEndpoint, parseEndpoint } from "./endpoint.ts";

describe("an endpoint", () => {
  it.each([
    ["http://127.0.0.1:8080/", "http://127.0.0.1:8080"],
    ["127.0.0.1:8080", "http://127.0.0.1:8080"],
    ["localhost:8080", "http://localhost:8080"],
    ["[::1]:8080", "http://[::1]:8080"],
    ["pitwall.example.com", "https://pitwall.example.com"],
    ["pitwall.example.com:8443", "https://pitwall.example.com:8443"],
    ["HTTPS://Pitwall.Example.com:443", "https://pitwall.example.com"],
  ])("%s is %s", (text, endpoint) => expect(parseEndpoint(text)).toBe(endpoint));
  it.each(["", "ftp://x", "http://", "https://a b"])("%j is none", (text) =>
    expect(() => parseEndpoint(text)).toThrow("is no address of a gateway"),
  );
  it.each(["https://x/path", "https://x?q", "https://x#f", "https://me:pw@x"])("%s is too much", (text) => {
    expect(() => parseEndpoint(text)).toThrow("an endpoint is scheme, host and port alone: https://x");
  });
});

describe("the endpoint of a command", () => {
  test("is the flag's first, then the environment's, then the current one", () => {
    expect(chooseEndpoint("https://a", "https://b", "https://c")).toBe("https://a");
    expect(chooseEndpoint(undefined, "https://b", "https://c")).toBe("https://b");
    expect(chooseEndpoint(undefined, "", "https://c")).toBe("https://c");
  });
  test("is asked for when there is none", () => {
    expect(() => chooseEndpoint(undefined, undefined, undefined)).toThrow("sign in with `pitwall login URL`");
  });
});
