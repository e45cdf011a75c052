import { Desired, EgressVerdict, Phase, VmSpec } from "@pitwall/proto/pitwall/v1/vm.ts";
import { expect, test } from "vitest";
import { begin } from "../../tests/support/sim-peer.ts";

const vmId = "00000000-0000-4000-8000-000000000001";

test.each([
  ["EGRESS_UNSUPPORTED", { egress: { rules: [], otherwise: EgressVerdict.EGRESS_VERDICT_ALLOW } }],
  ["BANDWIDTH_UNSUPPORTED", { bandwidthInBps: 64_000n }],
  ["BANDWIDTH_UNSUPPORTED", { bandwidthOutBps: 64_000n }],
])("a node without a network of its own starts no VM for which it would have to keep it: %s", async (reason, spec) => {
  const { clock, peer, node } = begin("{}");
  peer.want({ vmId, restartGeneration: 1n, desired: Desired.DESIRED_RUNNING, spec: VmSpec.fromPartial(spec) });
  await clock.until(() => peer.phase(vmId) === Phase.PHASE_FAILED, 60_000);
  expect(peer.seen.get(vmId)?.reason).toBe(reason);
  expect(node.host.running).toEqual([]);
});
