// Sessions of nodes with several controllers on one database.
import { randomBytes, randomUUID } from "node:crypto";
import { VmReport, type Assignment } from "@pitwall/proto/pitwall/v1/link.ts";
import { NodeState } from "@pitwall/proto/pitwall/v1/node.ts";
import { Desired, Phase, type Vm } from "@pitwall/proto/pitwall/v1/vm.ts";
import { afterAll, beforeAll, expect, test } from "vitest";
import { eventually, startInstallation, type Controller, type Installation } from "./support/installation.ts";
import { joinGateway, joinNode, obey, reportOf, stayHeard, type SpokenLink } from "./support/spoken-node.ts";

let installation: Installation;
let first: Controller;
let second: Controller;

beforeAll(async () => {
  installation = await startInstallation();
  [first, second] = await Promise.all([installation.startController(), installation.startController()]);
}, 60_000);

afterAll(async () => {
  await Promise.all([first?.[Symbol.asyncDispose](), second?.[Symbol.asyncDispose]()]);
  await installation?.[Symbol.asyncDispose]();
});

/** Has VMs placed on this node, and not on one of an earlier test that is seen to go at this moment. */
const onlyOn = (nodeId: string): Promise<unknown> => installation.query("update node set cordoned = id <> $1", [nodeId]);

const stateAt = async ({ admin }: Controller, node: string): Promise<NodeState | undefined> =>
  (await admin.nodes.getNode({ node })).node?.state;

const beat = (link: SpokenLink, sequence: bigint): void => link.say({ $case: "heartbeat", value: { sequence, available: undefined } });

const acknowledged = (link: SpokenLink, wanted: bigint): Promise<true> =>
  eventually(() => link.heard.some((message) => message.$case === "heartbeatAck" && message.value.sequence === wanted) || undefined);

test("each hello gets the node's next epoch, on whichever controller; the older session is ended", async () => {
  const node = await joinNode(installation, first.admin, "moving");
  const one = await node.link(first.link);
  const two = await node.link(second.link);
  expect(two.welcome.sessionEpoch).toBe(one.welcome.sessionEpoch + 1n);
  await one.ended;
  expect((await first.admin.nodes.getNode({ node: "moving" })).node).toMatchObject({
    state: NodeState.NODE_STATE_READY,
    sessionEpoch: two.welcome.sessionEpoch,
  });
  await two[Symbol.asyncDispose]();
});

test("a hello names all controllers, the one that answers first", async () => {
  const node = await joinNode(installation, first.admin, "curious");
  await using link = await node.link(second.link);
  expect(link.welcome.controllers.map((controller) => controller.link)).toEqual([second.link, first.link]);
});

test("two hellos of one node at the same time are two sessions, of which the newer stays", async () => {
  const node = await joinNode(installation, first.admin, "twofold");
  const links = await Promise.all([first, second, first, second].map((controller) => node.link(controller.link)));
  const epochs = links.map(({ welcome }) => welcome.sessionEpoch);
  expect(new Set(epochs).size).toBe(4);
  const newest = epochs.reduce((most, epoch) => (epoch > most ? epoch : most));
  await Promise.all(links.filter(({ welcome }) => welcome.sessionEpoch !== newest).map(({ ended }) => ended));
  const [left] = links.filter(({ welcome }) => welcome.sessionEpoch === newest);
  if (left) {
    beat(left, 1n);
    await acknowledged(left, 1n);
    await left[Symbol.asyncDispose]();
  }
});

test("a hello that is read late, when its node has gone elsewhere, proves no VM to be lost; one whose node answers the welcome does", async () => {
  const node = await joinNode(installation, first.admin, "elsewhere");
  await onlyOn(node.id);
  await using link = await node.link(second.link);
  void obey(link, 200);
  const { vm } = await first.admin.vms.createVm({ name: "kept", spec: { image: installation.image } });
  const look = async (): Promise<{ phase: Phase | undefined; reason: string | undefined }> => {
    const seen = (await first.admin.vms.getVm({ vm: vm?.id ?? "" })).vm;
    return { phase: seen?.phase, reason: seen?.reason };
  };
  await eventually(async () => (await look()).phase === Phase.PHASE_RUNNING || undefined);
  const late = await node.link(first.link, [], { isSilent: true }); // it names none: the VM came since
  late.say({ $case: "inventory", value: { vms: [], complete: true } });
  await late[Symbol.asyncDispose]();
  await eventually(async () => (await stateAt(second, "elsewhere")) === NodeState.NODE_STATE_UNREACHABLE || undefined);
  expect(await look()).toEqual({ phase: Phase.PHASE_RUNNING, reason: "" });
  await using _ = await node.link(first.link, []);
  await eventually(async () => (await look()).reason === "VM_LOST" || undefined);
});

test("a VM of which its node knows no more than that it is there is not lost; one that it knows nothing of at all is removed there", async () => {
  const node = await joinNode(installation, first.admin, "unreadable");
  await onlyOn(node.id);
  const link = await node.link(first.link);
  void obey(link, 200);
  const { vm } = await first.admin.vms.createVm({ name: "unreadable", spec: { image: installation.image } });
  const look = async (): Promise<Vm | undefined> => (await first.admin.vms.getVm({ vm: vm?.id ?? "" })).vm;
  const before = await eventually(async () => ((await look())?.phase === Phase.PHASE_RUNNING ? look() : undefined));
  await link[Symbol.asyncDispose]();
  const failed = { phase: Phase.PHASE_FAILED, reason: "JOURNAL_DAMAGED" };
  const unknown = (vmId: string): VmReport => VmReport.fromPartial({ vmId, epoch: 0n, generation: 0n, ...failed });
  const nobodys = randomUUID();
  await using again = await node.link(first.link, [unknown(before.id), unknown(nobodys)]);
  const asked = await eventually(() => again.assignments.find(({ vmId }) => vmId === before.id));
  expect(await look()).toMatchObject({ phase: Phase.PHASE_RUNNING, reason: "" });
  again.say({ $case: "report", value: { ...reportOf(asked), ...failed } });
  await eventually(async () => (await look())?.reason === "JOURNAL_DAMAGED" || undefined);
  expect(await eventually(() => again.assignments.find(({ vmId }) => vmId === nobodys))).toMatchObject({
    desired: Desired.DESIRED_DELETED,
  });
});

test("of two agents with one identity the second is refused while the first is heard of, and takes nothing from it", async () => {
  const node = await joinNode(installation, first.admin, "cloned");
  await onlyOn(node.id);
  const link = await node.link(first.link, [], { host: "one" });
  void obey(link, 200);
  const { vm } = await first.admin.vms.createVm({ name: "cloned", spec: { image: installation.image } });
  const look = async (): Promise<Vm | undefined> => (await first.admin.vms.getVm({ vm: vm?.id ?? "" })).vm;
  const before = await eventually(async () => ((await look())?.phase === Phase.PHASE_RUNNING ? look() : undefined));
  for (const at of [first, second, first])
    await expect(node.link(at.link, [], { host: "two" })).rejects.toThrow(
      "ALREADY_EXISTS: another agent with this node's identity has a link, from another host or another folder",
    );
  expect([link.isOver, await look()]).toEqual([false, before]);
  // Its own agent comes back at once, wherever its stream still seems to be open; so does one of a version before, which does not say.
  const again = await node.link(second.link, [reportOf(link.assignments[0] as Assignment)], { host: "one" });
  void obey(again, 200);
  await link.ended;
  expect((await look())?.phase).toBe(Phase.PHASE_RUNNING);
  await expect(node.link(first.link, [], { host: "two" })).rejects.toThrow("ALREADY_EXISTS");
  // It has gone: nothing tells the other from one that was moved.
  await again[Symbol.asyncDispose]();
  await eventually(async () => (await stateAt(second, "cloned")) === NodeState.NODE_STATE_UNREACHABLE || undefined);
  await using moved = await node.link(first.link, [], { host: "two" });
  expect(moved.welcome.sessionEpoch).toBe(again.welcome.sessionEpoch + 1n);
});

test("a heartbeat is acknowledged once the lease is in the database, and not for an older session", async () => {
  const node = await joinNode(installation, first.admin, "beating");
  await using one = await node.link(first.link);
  const inMicroseconds = "select (extract(epoch from lease_expire_time) * 1e6)::float8 as us from node_session where node_id = $1";
  const lease = async (): Promise<number> => Number((await installation.query(inMicroseconds, [node.id]))[0]?.["us"]);
  const before = await lease();
  beat(one, 1n);
  await acknowledged(one, 1n);
  expect(await lease()).toBeGreaterThan(before);
  // As if another controller had taken it over, and its notice were lost.
  await installation.query("update node_session set epoch = epoch + 1 where node_id = $1", [node.id]);
  const taken = await lease();
  beat(one, 2n);
  await one.ended;
  expect(one.heard.some((message) => message.$case === "heartbeatAck" && message.value.sequence === 2n)).toBe(false);
  expect(await lease()).toBe(taken);
});

test("a call that comes to one controller reaches a node whose link is on the other", async () => {
  const node = await joinNode(installation, first.admin, "afar");
  await using link = await node.link(first.link);
  void obey(link, 100);
  await onlyOn(node.id);
  const made = (await second.admin.vms.createVm({ name: "afar", spec: { image: installation.image } })).vm;
  const { vm } = await second.admin.vms.waitVm({ vm: made?.id ?? "" });
  expect(vm).toMatchObject({ nodeName: "afar", phase: Phase.PHASE_RUNNING });

  await using gateway = await joinGateway(installation, first.admin, "door");
  const request = {
    caller: { credential: { $case: "bearerToken" as const, value: await installation.token() } },
    vm: made?.id ?? "",
    target: { target: { $case: "tcp" as const, value: { port: 80 } } },
    token: randomBytes(32).toString("base64url"),
    gatewayAddress: "127.0.0.1:1",
  };
  const timesMs: number[] = [];
  for (let i = 0; i < 20; i++) {
    const since = performance.now();
    expect(await gateway.access(second.link).openTunnel(request)).toMatchObject({ vmId: made?.id, epoch: 1n });
    timesMs.push(performance.now() - since);
  }
  console.log(`a tunnel through the other controller took ${(timesMs.toSorted((a, b) => a - b)[10] ?? 0).toFixed(1)} ms`);
  const asked = link.heard.filter(({ $case }) => $case === "tunnel");
  expect(asked).toHaveLength(20);
  expect(asked[0]?.value).toMatchObject({ vmId: made?.id, epoch: 1n, token: request.token, gatewayAddress: request.gatewayAddress });

  const listing = second.admin.images.listImages({});
  const command = await eventually(() => link.heard.find((message) => message.$case === "imageCommand"));
  const digest = `sha256:${"a".repeat(64)}`;
  const images = [{ digest, references: ["docker.io/library/web:1"], baseBytes: 1n, layerBytes: 2n }];
  link.say({
    $case: "imageAnswer",
    value: { requestId: command.value.requestId, reason: "", message: "", inventory: { images }, freed: undefined },
  });
  expect((await listing).images).toMatchObject([{ digest, nodes: ["afar"] }]);
});

test("what an incomplete hello leaves out its node is asked for: it may have changed while nobody listened", async () => {
  const node = await joinNode(installation, first.admin, "forgetful");
  await onlyOn(node.id);
  const one = await node.link(first.link);
  const { vm: made } = await first.admin.vms.createVm({ name: "left-out", spec: { image: installation.image } });
  const { vm: other } = await first.admin.vms.createVm({ name: "named", spec: { image: installation.image } });
  const [id, named] = [made?.id ?? "", other?.id ?? ""];
  const [wanted, wantedToo] = await Promise.all([id, named].map((vm) => eventually(() => one.assignments.find(({ vmId }) => vmId === vm))));
  if (!wanted || !wantedToo) throw new Error("nothing was assigned");
  one.say({ $case: "report", value: reportOf(wanted, Phase.PHASE_BOOTING) });
  await eventually(async () => ((await first.admin.vms.getVm({ vm: id })).vm?.phase === Phase.PHASE_BOOTING ? true : undefined));
  await one[Symbol.asyncDispose]();

  // Questions are answered, what stands in a complete list is not (docs/link.md).
  await using two = await node.link(second.link, [reportOf(wantedToo)], { complete: false });
  const lists = await eventually(() => {
    const told = two.heard.flatMap((message) => (message.$case === "assignments" ? [message.value] : []));
    return told.length > 1 ? told : undefined;
  });
  expect(lists.map(({ complete, assignments }) => [complete, new Set(assignments.map(({ vmId }) => vmId))])).toEqual([
    [true, new Set([id, named])],
    [false, new Set([id])],
  ]);
});

test("the database refuses what a session that was overtaken has still to say", async () => {
  const node = await joinNode(installation, first.admin, "delayed");
  await using one = await node.link(first.link);
  void stayHeard(one, 100);
  await onlyOn(node.id);
  const { vm } = await first.admin.vms.createVm({ name: "guarded", spec: { image: installation.image } });
  const id = vm?.id ?? "";
  const phase = async (): Promise<Phase | undefined> => (await second.admin.vms.getVm({ vm: id })).vm?.phase;
  const wanted = await eventually(() => one.assignments.find(({ vmId }) => vmId === id));
  const waiting = (): Promise<unknown[]> =>
    installation.query("select from pg_stat_activity where wait_event_type = 'Lock' and query like '%for key share%'");
  // The report is held up in the first controller's transaction while another controller takes the node over.
  await installation.holding("update node_session set epoch = epoch + 1 where node_id = $1", [node.id], async () => {
    one.say({ $case: "report", value: reportOf(wanted) });
    await eventually(async () => (await waiting())[0]);
  });
  await eventually(async () => (await waiting()).length === 0 || undefined);
  await using two = await node.link(second.link);
  await one.ended;
  expect(await phase()).toBe(Phase.PHASE_PLACED);
  two.say({ $case: "report", value: reportOf(wanted) });
  await eventually(async () => ((await phase()) === Phase.PHASE_RUNNING ? true : undefined));
});

test("heartbeats are acknowledged while what the node says of its VMs waits for the database, in a hello as well as afterwards", async () => {
  const node = await joinNode(installation, first.admin, "waiting");
  await using one = await node.link(first.link);
  void stayHeard(one, 200);
  await onlyOn(node.id);
  const { vm } = await first.admin.vms.createVm({ name: "waited-for", spec: { image: installation.image } });
  const id = vm?.id ?? "";
  const wanted = await eventually(() => one.assignments.find(({ vmId }) => vmId === id));
  const isWaiting = async (sessions: number): Promise<true | undefined> =>
    (await installation.query("select from pg_stat_activity where wait_event_type = 'Lock' and query like '%for update of vm%'")).length ===
      sessions || undefined;
  const acks = (link: SpokenLink): number => link.heard.filter(({ $case }) => $case === "heartbeatAck").length;
  await installation.holding("select from vm where id = $1 for update", [id], async () => {
    for (let i = 0; i < 100; i++) one.say({ $case: "report", value: reportOf(wanted) });
    await eventually(() => isWaiting(1));
    const before = acks(one);
    await eventually(() => acks(one) > before + 3 || undefined);
    await using two = await node.link(second.link, [reportOf(wanted)]);
    await one.ended;
    void stayHeard(two, 200);
    await eventually(() => isWaiting(2));
    await eventually(() => acks(two) > 3 || undefined);
    expect(two.heard.some((message) => message.$case === "assignments" && message.value.complete)).toBe(false);
  });
});

test("a killed agent is seen at once on every controller, a silent one after some heartbeats, and neither is lost", async () => {
  const node = await joinNode(installation, first.admin, "fading");
  const killed = await node.link(first.link);
  void obey(killed, 100);
  expect(await stateAt(second, "fading")).toBe(NodeState.NODE_STATE_READY);
  await killed[Symbol.asyncDispose]();
  await eventually(async () => ((await stateAt(second, "fading")) === NodeState.NODE_STATE_UNREACHABLE ? true : undefined));

  await using silent = await node.link(first.link);
  expect(await stateAt(second, "fading")).toBe(NodeState.NODE_STATE_READY);
  await eventually(async () => ((await stateAt(second, "fading")) === NodeState.NODE_STATE_UNREACHABLE ? true : undefined));
  const [row] = await installation.query("select end_reason, lease_expire_time > now() as held from node_session where node_id = $1", [
    node.id,
  ]);
  expect(row).toEqual({ end_reason: "silent", held: true });
  await silent.ended;
});

test("a pause of the controller makes no node unreachable", async () => {
  await using paused = await installation.startController();
  const node = await joinNode(installation, first.admin, "patient");
  await using link = await node.link(paused.link);
  void obey(link, 100);
  await eventually(() => link.heard.some(({ $case }) => $case === "heartbeatAck") || undefined);
  paused.signal("SIGSTOP");
  // Longer than its nodes may be silent, and than their lease.
  await eventually(async () => ((await stateAt(first, "patient")) === NodeState.NODE_STATE_UNREACHABLE ? true : undefined));
  paused.signal("SIGCONT");
  await eventually(async () => ((await stateAt(first, "patient")) === NodeState.NODE_STATE_READY ? true : undefined));
  const [row] = await installation.query("select epoch, end_reason from node_session where node_id = $1", [node.id]);
  expect(row).toEqual({ epoch: String(link.welcome.sessionEpoch), end_reason: "" });
});
