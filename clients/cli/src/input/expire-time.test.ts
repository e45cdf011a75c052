import { expect, test } from "vitest";
import { parseExpireTime } from "./expire-time.ts";

test("a day, a time with its zone, or never", () => {
  expect(parseExpireTime("never")).toBe("never");
  expect(parseExpireTime("2027-01-31")).toEqual(new Date(Date.UTC(2027, 0, 31)));
  expect(parseExpireTime("2027-01-31T12:30:00+01:00")).toEqual(new Date(Date.UTC(2027, 0, 31, 11, 30)));
});

test.each(["", "tomorrow", "2027-13-01", "2027-01-31T12:30:00", "1"])("%j is refused", (text) => {
  expect(() => parseExpireTime(text)).toThrow("Expected a time such as");
});
