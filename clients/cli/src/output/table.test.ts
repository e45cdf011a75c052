import { expect, test } from "vitest";
import { fieldList, table } from "./table.ts";

test("columns are as wide as their widest cell, without blanks at the end of a line", () => {
  expect(
    table(
      ["NAME", "PHASE"],
      [
        ["web", "running"],
        ["database", "failed"],
      ],
    ),
  ).toBe("NAME      PHASE\nweb       running\ndatabase  failed\n");
});

test("a table without rows is nothing", () => {
  expect(table(["NAME"], [])).toBe("");
});

test("colours do not change widths", () => {
  const paint = (text: string): string => `<${text}>`;
  expect(
    table(
      ["A", "B"],
      [
        [{ text: "x", paint }, "1"],
        ["yyy", "2"],
      ],
    ),
  ).toBe("A    B\n<x>    1\nyyy  2\n");
});

test("hostile cells neither break lines nor reach the terminal", () => {
  expect(table(["A", "B"], [["x\u001b[31m\ny", "1"]])).toBe("A    B\nx y  1\n");
});

test("fields without a value are left out", () => {
  expect(
    fieldList([
      ["Name", "web"],
      ["Reason", ""],
      ["Node", "n1"],
    ]),
  ).toBe("Name  web\nNode  n1\n");
});
