import { Placement } from "@pitwall/proto/pitwall/v1/vm.ts";
import { expect, it } from "vitest";
import { checkPlacement, parseLabelTerm } from "./placement-spec.ts";

it.each([
  ["zone=a", { op: "in", key: "zone", values: ["a"] }],
  ["zone != a", { op: "not-in", key: "zone", values: ["a"] }],
  ["zone in (a, b)", { op: "in", key: "zone", values: ["a", "b"] }],
  ["zone notin (a)", { op: "not-in", key: "zone", values: ["a"] }],
  ["example.com/gpu", { op: "exists", key: "example.com/gpu" }],
  ["!gpu", { op: "absent", key: "gpu" }],
  ["empty=", { op: "in", key: "empty", values: [""] }],
])("%s is a term", (text, term) => {
  expect(parseLabelTerm(text, "f")).toEqual(term);
});

it.each(["", "=a", "zone=a b", "zone in ()", "zone in (a,,b)", "zone in (a", "zone==a", "!", "a'b", "-x"])("%j is none", (text) => {
  expect(() => parseLabelTerm(text, "spec.placement.require_labels[3]")).toThrow(
    "spec.placement.require_labels[3]: must be key=value, key!=value, key in (a,b), key notin (a,b), key or !key",
  );
});

it("names the field that is wrong", () => {
  const check = (placement: Partial<Placement>) => () => checkPlacement({ placement: Placement.fromPartial(placement), nodeLossPolicy: 0 });
  expect(check({ preferLabels: ["a", "b=c d"] })).toThrow("spec.placement.prefer_labels[1]: must be");
  expect(check({ strategy: 9 as 2 })).toThrow("spec.placement.strategy: must be a strategy that this version knows, got 9");
  expect(check({ antiAffinityLabel: "a b" })).toThrow('spec.placement.anti_affinity_label: must be a label\'s key, got "a b"');
  expect(check({ requireLabels: Array.from({ length: 33 }, () => "a") })).toThrow(
    "spec.placement.require_labels: holds 33 terms; the limit is 32",
  );
  expect(() => checkPlacement({ placement: undefined, nodeLossPolicy: 7 as 2 })).toThrow("spec.node_loss_policy: must be a policy");
});
