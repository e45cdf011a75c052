import { expect, test } from "vitest";
import { EgressVerdict } from "./gen/pitwall/v1/vm.ts";
import { createRequest, updateRequest } from "./vm-requests.ts";

const hostile = Object.fromEntries([["__proto__", "x"]]);

test("a name that the wire's objects would lose is refused, and its field named", () => {
  const refused = (field: string): object =>
    expect.objectContaining({
      name: "PitwallRpcError",
      code: "INVALID_ARGUMENT",
      reason: "INVALID_FIELD",
      field,
      message: `${field}: may not hold "__proto__" as a name`,
    }) as object;
  expect(() => createRequest({ spec: { image: "x", env: hostile } }, {})).toThrow(refused("spec.env"));
  expect(() => createRequest({ spec: { image: "x", labels: hostile } }, {})).toThrow(refused("spec.labels"));
  expect(() => updateRequest("web", { labels: hostile }, {}, {})).toThrow(refused("value.spec.labels"));
  expect(() => updateRequest("web", { env: hostile }, {}, {})).toThrow(refused("value.spec.env"));
});

test("names of what objects have by nature are names like others", () => {
  expect(createRequest({ spec: { image: "x", labels: { constructor: "y" } } }, {}).spec?.labels).toEqual({ constructor: "y" });
});

test("each way of a VM's bandwidth is changed by itself", () => {
  const set = updateRequest("web", { bandwidthOutBps: 0n }, {}, {});
  expect([set.updateMask, set.value?.spec?.bandwidthOutBps]).toEqual([["spec.bandwidth_out_bps"], 0n]);
});

test("rules for what a VM sends are replaced as a whole, or taken away", () => {
  const egress = { rules: [], otherwise: EgressVerdict.EGRESS_VERDICT_DENY };
  const set = updateRequest("web", { egress }, {}, {});
  expect([set.updateMask, set.value?.spec?.egress]).toEqual([["spec.egress"], egress]);
  const none = updateRequest("web", { egress: null }, {}, {});
  expect([none.updateMask, none.value?.spec?.egress]).toEqual([["spec.egress"], undefined]);
});
