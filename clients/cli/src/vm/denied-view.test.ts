import { DeniedFlow, DeniedFlow_By as DeniedBy } from "@pitwall/sdk";
import { expect, test } from "vitest";
import { deniedTable } from "./denied-view.ts";

const lastTime = new Date(1_000_000);
const flow = (more: Partial<DeniedFlow>): DeniedFlow =>
  DeniedFlow.fromPartial({ destination: "203.0.113.7", protocol: 6, port: 25, packets: 3n, lastTime, by: DeniedBy.BY_RULES, ...more });

test("each flow has a line: where to, how, how often, when last, and by whose rules", () => {
  const flows = [flow({}), flow({ destination: "fd00::1", protocol: 58, port: 0, by: DeniedBy.BY_NODE }), flow({ protocol: 250, port: 0 })];
  const view = deniedTable({ flows, unlistedPackets: 0n }, 1_030_000);
  expect(
    view
      .table()
      .split("\n")
      .slice(0, 4)
      .map((line) => line.split(/ {2,}/)),
  ).toEqual([
    ["DESTINATION", "PORT", "PACKETS", "LAST", "BY"],
    ["203.0.113.7", "tcp/25", "3", "30s", "its rules"],
    ["fd00::1", "icmp", "3", "30s", "its node"],
    ["203.0.113.7", "250", "3", "30s", "its rules"],
  ]);
  expect(view.names).toEqual(["203.0.113.7:25", "[fd00::1]:0", "203.0.113.7:0"]);
});
