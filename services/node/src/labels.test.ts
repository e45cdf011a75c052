import { expect, it } from "vitest";
import { readNodeConfig } from "./config.ts";
import { labelsOf } from "./labels.ts";

const choicesOf = (text: string): ReturnType<typeof readNodeConfig>["PITWALL_LABEL"] =>
  readNodeConfig({ PITWALL_STATE_DIR: "/state", PITWALL_LABEL: text }).PITWALL_LABEL;

it("reads labels, the later one of a key", () => {
  expect(labelsOf(choicesOf("zone=a, disk=ssd,bare=,zone=b,"), undefined)).toEqual({ zone: "b", disk: "ssd", bare: "" });
  expect(labelsOf(readNodeConfig({ PITWALL_STATE_DIR: "/state" }).PITWALL_LABEL, undefined)).toEqual({});
});

it("lets simulated nodes take turns, and no other", () => {
  const choices = choicesOf("zone=a|b|c,kind=sim");
  const all = [0, 1, 2, 3].map((index) => labelsOf(choices, index));
  expect(all).toEqual(["a", "b", "c", "a"].map((zone) => ({ zone, kind: "sim" })));
  expect(() => labelsOf(choices, undefined)).toThrow("PITWALL_LABEL: the label zone has 3 values; only simulated nodes take turns");
});

it.each([
  ["zone", 'PITWALL_LABEL: label: expected KEY=VALUE, got "zone"'],
  ["=a", "expected KEY=VALUE"],
  ["zone=a b", 'the value of zone must be at most 63 letters, digits and any of _.-, got "a b"'],
  ["zone=a|b c", "the value of zone"],
  ["__proto__=a", "a label's key is"],
  [Array.from({ length: 65 }, (_, index) => `k${index}=`).join(), "holds 65 labels; the limit is 64"],
])("refuses %s", (text, words) => {
  expect(() => choicesOf(text)).toThrow(words);
});
