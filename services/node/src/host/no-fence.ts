// A host without the fence program: it runs no VM that may be started elsewhere.
import { PitwallError } from "@pitwall/runtime";
import type { AgentFence } from "../agent.ts";

export const noFence: AgentFence = {
  deadlineMs: 0,
  renew: () => undefined,
  release: () => undefined,
  async guard() {
    const message =
      "this node has no fence program, so it cannot run VMs that may be started elsewhere: build guest/powerunit/fence and name it in PITWALL_FENCE";
    throw new PitwallError("unsupported", message, { reason: "FENCE_MISSING" });
  },
};
