import { expect, test } from "vitest";
import { logLevel } from "./log.ts";

test("a level is read by its name", () => {
  expect(logLevel("warn")).toBe("warn");
  expect(logLevel("debug")).toBe("debug");
});

test("what is no level is info", () => {
  expect(logLevel(undefined)).toBe("info");
  expect(logLevel("loud")).toBe("info");
});
