import { expect, it } from "vitest";
import { parseLifeMs } from "./life.ts";

it("reads long times", () => {
  expect(["0", "90s", "5m", "12h", "30d"].map(parseLifeMs)).toEqual([0, 90_000, 300_000, 43_200_000, 2_592_000_000]);
});

it.each(["", "1", "-1d", "1.5h", "1w", "9999999d"])("refuses %j", (text) => expect(() => parseLifeMs(text)).toThrow("Expected a time"));
