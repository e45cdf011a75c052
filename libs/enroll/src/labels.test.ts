import { expect, it } from "vitest";
import { checkLabels } from "./labels.ts";

it("takes what the terms of a placement can name", () => {
  const labels = { zone: "a", "example.com/rack": "r_1.2-3", ssd: "", ["k".repeat(128)]: "v".repeat(63) };
  expect(checkLabels("labels", labels)).toBe(labels);
});

it.each([
  [{ "": "a" }, "labels: a label's key is 1 to 128 letters"],
  [{ "-zone": "a" }, 'got "-zone"'],
  [{ ["k".repeat(129)]: "a" }, "labels: a label's key is 1 to 128 letters"],
  [{ zone: "a b" }, 'labels: the value of zone must be at most 63 letters, digits and any of _.-, got "a b"'],
  [{ zone: "a\0" }, "labels: the value of zone"],
  [{ zone: "v".repeat(64) }, "labels: the value of zone"],
  [Object.fromEntries(Array.from({ length: 65 }, (_, index) => [`k${index}`, ""])), "labels: holds 65 labels; the limit is 64"],
])("refuses %j by its field", (labels, words) => {
  expect(() => checkLabels("labels", labels)).toThrow(words);
});
