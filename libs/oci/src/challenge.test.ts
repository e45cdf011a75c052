import { expect, it } from "vitest";
import { parseChallenges } from "./challenge.ts";

const read = (header: string): unknown => parseChallenges(header).map(({ scheme, fields }) => [scheme, Object.fromEntries(fields)]);

it("reads a bearer challenge with commas and quotes in its values", () => {
  expect(read('Bearer realm="https://auth.example.com/token?a=b,c",service="registry \\"one\\"",scope="repository:a/b:pull,push"')).toEqual(
    [["bearer", { realm: "https://auth.example.com/token?a=b,c", service: 'registry "one"', scope: "repository:a/b:pull,push" }]],
  );
});

it("reads several challenges, and values without quotes", () => {
  expect(read('Basic realm=x , Bearer realm="y", error=invalid_token')).toEqual([
    ["basic", { realm: "x" }],
    ["bearer", { realm: "y", error: "invalid_token" }],
  ]);
});

it.each(["", ",,,", "=", '"', "realm=x", 'Bearer realm="never closed', "\0"])("makes nothing harmful of %j", (header) => {
  expect(parseChallenges(header).every(({ fields }) => !fields.has("realm"))).toBe(true);
});

it("reads a header that is far too long in no time", () => {
  expect(parseChallenges(`Bearer ${"a=\\".repeat(100_000)}`).length).toBeLessThan(10_000);
});
