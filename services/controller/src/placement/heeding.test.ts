import { expect, test } from "vitest";
import { heedingCapability, heedingLabel, heedingTerm } from "./heeding.ts";

test("only a node with a network and an agent that is new enough has what a VM with rules asks for", () => {
  expect(Object.keys(heedingLabel({ capability: heedingCapability, hasSubnet: true }))).toEqual([heedingTerm.key]);
  expect(heedingLabel({ capability: heedingCapability - 1, hasSubnet: true })).toEqual({});
  expect(heedingLabel({ capability: heedingCapability, hasSubnet: false })).toEqual({});
});
