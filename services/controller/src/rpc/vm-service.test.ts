import { Phase, Vm } from "@pitwall/proto/pitwall/v1/vm.ts";
import { PitwallError } from "@pitwall/runtime";
import { Metadata, type CallContext } from "nice-grpc";
import { expect, test } from "vitest";
import { Feed } from "../vm/feed.ts";
import type { CallerContext } from "./identity.ts";
import { vmService, type VmUseCases } from "./vm-service.ts";

const ada = { subject: "ada", username: "ada", isAdmin: false, token: undefined };
const vm = Vm.fromPartial({ id: "1", name: "web", owner: "ada", phase: Phase.PHASE_DELETING, etag: "1" });

/** A VM that goes as soon as somebody has looked at it. */
function vanishing(): VmUseCases {
  const feed = new Feed(1n);
  let isThere = true;
  const unused = (): never => {
    throw new Error("not in these tests");
  };
  return {
    feed,
    create: unused,
    list: unused,
    setDesired: unused,
    projectIds: unused,
    async get() {
      if (!isThere) throw new PitwallError("not-found", "there is no VM");
      queueMicrotask(() => {
        isThere = false;
        feed.publish({ revision: 2n, projectId: "", vm: { ...vm, phase: Phase.PHASE_GONE } });
      });
      return vm;
    },
  };
}

function contextOf(signal: AbortSignal): CallContext & CallerContext {
  const metadata = Metadata();
  const sendHeader = (): void => undefined;
  return { user: ada, member: undefined, metadata, peer: "", header: metadata, trailer: metadata, sendHeader, signal };
}

test("a watch is told of a VM that goes while the watch begins", async () => {
  const stop = new AbortController();
  const phases: number[] = [];
  const request = { vm: "web", resumeToken: "", project: "" };
  for await (const message of vmService(vanishing()).watchVms(request, contextOf(stop.signal))) {
    if (message.vm?.phase !== undefined) phases.push(message.vm.phase);
    if (phases.at(-1) === Phase.PHASE_GONE) stop.abort();
  }
  expect(phases).toEqual([Phase.PHASE_GONE]);
});

test("a wait ends with a VM that goes while the wait begins", async () => {
  const request = { vm: "web", phases: [Phase.PHASE_STOPPED], minGeneration: 0n };
  const { vm: last } = await vmService(vanishing()).waitVm(request, contextOf(new AbortController().signal));
  expect(last?.phase).toBe(Phase.PHASE_GONE);
});
