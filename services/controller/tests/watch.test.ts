// WatchVms and WaitVm: over the wire, on a real database, with a node that obeys.
import { Phase, type WatchVmsResponse } from "@pitwall/proto/pitwall/v1/vm.ts";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { startControllers, type Calls, type TestControllers } from "./support/controllers.ts";
import { startNode, type TestNode } from "./support/node.ts";
import { refusalOf } from "./support/refusals.ts";

let pitwall: TestControllers;
let node: TestNode;
let ada: Calls;

beforeAll(async () => {
  pitwall = await startControllers(2);
  node = await startNode(pitwall, { name: "one" });
  ada = await pitwall.as("ada");
});
afterAll(async () => {
  await node?.[Symbol.asyncDispose]();
  await pitwall?.[Symbol.asyncDispose]();
});

async function running(name: string): Promise<void> {
  await ada.vms.createVm({ name, spec: { image: pitwall.image, cpuMillis: 100 } });
  await ada.vms.waitVm({ vm: name });
}

describe("a watch", () => {
  /** Reads until the predicate holds of a message. */
  async function read(
    stream: AsyncIterable<WatchVmsResponse>,
    enough: (message: WatchVmsResponse) => boolean,
  ): Promise<WatchVmsResponse[]> {
    const seen: WatchVmsResponse[] = [];
    for await (const message of stream) {
      seen.push(message);
      if (enough(message)) break;
    }
    return seen;
  }

  it("goes on at another controller where it broke off: no change is missing, none twice, each VM's in order", async () => {
    const fred = await pitwall.as("fred");
    const elsewhere = await pitwall.as("fred", 1);
    const first = await read(fred.vms.watchVms({}), ({ synced }) => synced);
    const token = first.at(-1)?.resumeToken ?? "";
    expect(token).not.toBe("");
    const { vm } = await fred.vms.createVm({ name: "seen", spec: { image: pitwall.image, cpuMillis: 100 } });
    const id = vm?.id ?? "";
    await fred.vms.waitVm({ vm: id });
    await fred.vms.deleteVm({ vm: id });
    const all = await read(elsewhere.vms.watchVms({ resumeToken: token }), (message) => message.vm?.phase === Phase.PHASE_GONE);
    const etags = all.flatMap((message) => (message.vm ? [BigInt(message.vm.etag)] : []));
    expect(etags).toEqual([...new Set(etags)].toSorted((a, b) => (a < b ? -1 : 1)));
    expect(all.flatMap((message) => (message.vm ? [message.vm.phase] : []))).toEqual([
      ...[Phase.PHASE_PLACED, Phase.PHASE_RUNNING, Phase.PHASE_RUNNING, Phase.PHASE_GONE],
    ]);
    const middle = all.find((message) => message.vm?.phase === Phase.PHASE_RUNNING)?.resumeToken ?? "";
    const rest = await read(fred.vms.watchVms({ resumeToken: middle }), (message) => message.vm?.phase === Phase.PHASE_GONE);
    expect(rest.flatMap((message) => (message.vm ? [message.vm.etag] : []))).toEqual(etags.slice(2).map(String));
  });

  it("of one VM tells of that one only", async () => {
    const gina = await pitwall.as("gina");
    for (const name of ["mine", "other"]) await gina.vms.createVm({ name, spec: { image: pitwall.image, cpuMillis: 100 } });
    await gina.vms.waitVm({ vm: "other" });
    const seen = await read(gina.vms.watchVms({ vm: "mine" }), (message) => message.vm?.phase === Phase.PHASE_RUNNING);
    expect(new Set(seen.flatMap((message) => (message.vm ? [message.vm.name] : [])))).toEqual(new Set(["mine"]));
  });

  it("of one VM goes on over a new name and over its end, by whatever it was called; for those only who may see it", async () => {
    const [ivy, else1] = [await pitwall.as("ivy"), await pitwall.as("ivy", 1)];
    const isOver = (message: WatchVmsResponse): boolean => message.vm?.phase === Phase.PHASE_GONE;
    const { vm } = await ivy.vms.createVm({ name: "first-name", spec: { image: pitwall.image, cpuMillis: 100 } });
    const id = vm?.id ?? "";
    await ivy.vms.waitVm({ vm: id });
    const tokens = await Promise.all(
      ["first-name", id].map(async (by) => (await read(ivy.vms.watchVms({ vm: by }), ({ synced }) => synced)).at(-1)?.resumeToken ?? ""),
    );
    const [byName = "", byId = ""] = tokens;
    await ivy.vms.renameVm({ vm: id, name: "second-name" });
    await ivy.vms.createVm({ name: "first-name", spec: { image: pitwall.image, cpuMillis: 100 } }); // another one
    const renamed = await read(
      else1.vms.watchVms({ vm: "first-name", resumeToken: byName }),
      (message) => message.vm?.name === "second-name",
    );
    const middle = renamed.at(-1)?.resumeToken ?? "";
    await ivy.vms.deleteVm({ vm: id });
    expect((await ivy.vms.waitVm({ vm: id, phases: [Phase.PHASE_GONE] })).vm).toMatchObject({ id, phase: Phase.PHASE_GONE });
    for (const [reference, resumeToken] of [
      ["first-name", byName],
      ["first-name", middle],
      [id, byName],
      [id, byId],
    ] as const) {
      const rest = await read(else1.vms.watchVms({ vm: reference, resumeToken }), isOver);
      expect(rest.at(-1)?.vm).toMatchObject({ id, name: "second-name", phase: Phase.PHASE_GONE });
      expect(new Set(rest.flatMap((message) => (message.vm ? [message.vm.id] : [])))).toEqual(new Set([id]));
    }
    // Asked for after its end: its last word.
    expect((await read(else1.vms.watchVms({ vm: id }), ({ synced }) => synced)).map((message) => message.vm?.phase)).toEqual([
      Phase.PHASE_GONE,
      undefined,
    ]);
    expect((await else1.vms.waitVm({ vm: id, phases: [Phase.PHASE_GONE] })).vm?.name).toBe("second-name");
    await expect(read(ivy.vms.watchVms({ vm: "second-name", resumeToken: byId }), isOver)).rejects.toThrow(
      "INVALID_ARGUMENT: resume_token: is of a watch of the VM",
    );
    const stranger = await pitwall.as("jack");
    for (const call of [
      () => read(stranger.vms.watchVms({ vm: id, resumeToken: byId }), isOver),
      () => read(stranger.vms.watchVms({ vm: id }), isOver),
      () => stranger.vms.waitVm({ vm: id, phases: [Phase.PHASE_GONE] }),
    ])
      expect(await refusalOf(call())).toBe(`NOT_FOUND there is no VM "${id}"`);
  });

  it("is of a VM or of a project", async () => {
    expect(await refusalOf(read(ada.vms.watchVms({ vm: "x", project: "ada" }), () => true))).toContain(
      "INVALID_ARGUMENT project: cannot be given with vm",
    );
  });

  it("tells nobody of VMs that are not theirs", async () => {
    const hugo = await pitwall.as("hugo");
    const reading = read(hugo.vms.watchVms({ project: "-" }), (message) => message.vm?.name === "end");
    await running("not-hugos");
    await hugo.vms.createVm({ name: "end", spec: { image: pitwall.image, cpuMillis: 100 } });
    expect(new Set((await reading).flatMap((message) => (message.vm ? [message.vm.owner] : [])))).toEqual(new Set(["hugo"]));
    await expect(read(hugo.vms.watchVms({ project: "ada" }), () => true)).rejects.toThrow("NOT_FOUND");
  });

  it("is OUT_OF_RANGE with a token that is too old, and INVALID_ARGUMENT with one that nobody gave", async () => {
    const { resumeToken } = (await read(ada.vms.watchVms({}), ({ synced }) => synced)).at(-1) ?? {};
    await running("after-the-token");
    await pitwall.query("update vm_event_floor set (txid, seq) = (select txid, seq from vm_event order by txid desc, seq desc limit 1)");
    await expect(read(ada.vms.watchVms({ resumeToken: resumeToken ?? "" }), () => true)).rejects.toThrow(
      "OUT_OF_RANGE: resume_token: is too old",
    );
    await expect(read(ada.vms.watchVms({ resumeToken: "1.2.AAAA" }), () => true)).rejects.toThrow(
      "INVALID_ARGUMENT: resume_token: is not a token of this installation",
    );
  });
});
