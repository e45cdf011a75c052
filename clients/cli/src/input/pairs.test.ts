import { expect, test } from "vitest";
import { addItem, addPair } from "./pairs.ts";

test("pairs add up, and a later one replaces an earlier one", () => {
  expect(addPair("A=3", addPair("B=2", addPair("A=1")))).toEqual({ A: "3", B: "2" });
});

test("a value may be empty or hold the equals sign", () => {
  expect(addPair("URL=http://x?a=b", addPair("EMPTY="))).toEqual({ EMPTY: "", URL: "http://x?a=b" });
});

test("a name is needed", () => {
  for (const text of ["", "A", "=x"]) expect(() => addPair(text)).toThrow("Expected NAME=VALUE.");
});

test("a name that would be lost on the way is refused", () => {
  expect(() => addPair("__proto__=x")).toThrow("__proto__ cannot be a name here.");
  expect(addPair("constructor=x")).toEqual({ constructor: "x" });
});

test("repeated options keep their order", () => {
  expect(addItem("b", addItem("a"))).toEqual(["a", "b"]);
});
