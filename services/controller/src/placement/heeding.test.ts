import { expect, test } from "vitest";
import { heedingCapability, heedingLabel, heedingTerm, pacingCapability, pacingTerm } from "./heeding.ts";

test("only a node with a network and an agent that is new enough has what a VM with rules, or with a limit, asks for", () => {
  expect(Object.keys(heedingLabel({ capability: heedingCapability, hasSubnet: true }))).toEqual([heedingTerm.key]);
  expect(Object.keys(heedingLabel({ capability: pacingCapability, hasSubnet: true }))).toEqual([heedingTerm.key, pacingTerm.key]);
  expect(heedingLabel({ capability: pacingCapability, hasSubnet: false })).toEqual({});
  expect(heedingLabel({ capability: heedingCapability - 1, hasSubnet: true })).toEqual({});
  expect(heedingLabel({ capability: heedingCapability, hasSubnet: false })).toEqual({});
});
