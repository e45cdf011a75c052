import { expect, it } from "vitest";
import { retryAfterMs } from "./transport.ts";

const now = Date.parse("2026-01-01T00:00:00Z");

it.each([
  [undefined, undefined],
  ["0", 0],
  ["120", 120_000],
  ["Thu, 01 Jan 2026 00:00:30 GMT", 30_000],
  ["Wed, 31 Dec 2025 23:00:00 GMT", 0],
  ["soon", undefined],
  ["-5", undefined],
  ["99999999999999999999", undefined],
])("reads the Retry-After header %j", (header, expected) => {
  expect(retryAfterMs(header, now)).toBe(expected);
});
