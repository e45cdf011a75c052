import { expect, test } from "vitest";
import { openColours, takesColour } from "./colours.ts";

test("there is no colour off a terminal or with NO_COLOR", () => {
  expect(takesColour(true, {})).toBe(true);
  expect(takesColour(false, {})).toBe(false);
  expect(takesColour(true, { NO_COLOR: "1" })).toBe(false);
  expect(takesColour(true, { TERM: "dumb" })).toBe(false);
  expect(openColours(false).red("x")).toBe("x");
  expect(openColours(true).red("x")).not.toBe("x");
});
