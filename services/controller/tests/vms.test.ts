// What owners do to VMs and see of them: over the wire, on a real database, with a node that obeys.
import { Desired, Phase, RestartPolicy, Vm } from "@pitwall/proto/pitwall/v1/vm.ts";
import { ClientError } from "nice-grpc";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { startControllers, type Calls, type TestControllers } from "./support/controllers.ts";
import { startNode, type TestNode } from "./support/node.ts";
import { refusalOf } from "./support/refusals.ts";

let pitwall: TestControllers;
let node: TestNode;
let ada: Calls;
const capacity = { cpuMillis: 64_000, memMib: 65_536, diskMib: 1_000_000 };

beforeAll(async () => {
  pitwall = await startControllers(2);
  node = await startNode(pitwall, { name: "one", capacity });
  ada = await pitwall.as("ada");
});
afterAll(async () => {
  await node?.[Symbol.asyncDispose]();
  await pitwall?.[Symbol.asyncDispose]();
});

async function running(name: string, spec: Partial<Vm["spec"] & object> = {}, more: object = {}): Promise<Vm> {
  await ada.vms.createVm({ name, spec: { image: pitwall.image, cpuMillis: 100, memBytes: 128n * 2n ** 20n, ...spec }, ...more });
  return until(name, Phase.PHASE_RUNNING);
}
async function until(vm: string, ...phases: Phase[]): Promise<Vm> {
  return Vm.fromPartial((await ada.vms.waitVm({ vm, phases })).vm ?? {});
}
const get = async (vm: string): Promise<Vm> => Vm.fromPartial((await ada.vms.getVm({ vm })).vm ?? {});

describe("a move", () => {
  it("that the state forbids says the state and the moves that it allows, for people and programs", async () => {
    await running("refused");
    await ada.vms.stopVm({ vm: "refused" });
    await until("refused", Phase.PHASE_STOPPED);
    const error: unknown = await ada.vms.restartVm({ vm: "refused" }).catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(ClientError);
    expect((error as ClientError).message).toContain(
      "FAILED_PRECONDITION: the VM refused is stopped: that does not allow restart (start it); it allows start, stop, change, delete, purge",
    );
    await expect(ada.vms.undeleteVm({ vm: "refused" })).rejects.toThrow("the VM refused is stopped: that does not allow undelete");
  });

  it("restart starts a running VM again, and nothing else does", async () => {
    const before = await running("again");
    await ada.vms.restartVm({ vm: "again" });
    const told = await node.isTold(({ vmId, generation }) => vmId === before.id && generation === 2n);
    expect(told).toMatchObject({ desired: Desired.DESIRED_RUNNING, restartGeneration: 2n });
    await ada.vms.updateVm({ vm: "again", value: { spec: { labels: { a: "b" } } }, updateMask: ["spec.labels"] });
    expect(await node.isTold(({ vmId, generation }) => vmId === before.id && generation === 3n)).toMatchObject({ restartGeneration: 2n });
    expect(await get("again")).toMatchObject({ generation: 3n, desired: Desired.DESIRED_RUNNING });
  });

  it("a start of a VM whose node has lost it begins anew; a change of it does not", async () => {
    const { id } = await running("lost");
    node.report(id, { phase: Phase.PHASE_GONE });
    expect(await until("lost", Phase.PHASE_FAILED)).toMatchObject({ reason: "VM_LOST" });
    await ada.vms.updateVm({ vm: "lost", value: { spec: { labels: { a: "b" } } }, updateMask: ["spec.labels"] });
    expect(await until("lost", Phase.PHASE_FAILED)).toMatchObject({ reason: "VM_LOST", generation: 2n, observedGeneration: 2n });
    await ada.vms.startVm({ vm: "lost" });
    expect(await until("lost", Phase.PHASE_RUNNING)).toMatchObject({ generation: 3n });
    // What is not brought about yet may be said again.
    expect([...new Set(node.told.filter(({ vmId }) => vmId === id).map(({ generation }) => generation))]).toEqual([1n, 3n]);
  });
});

describe("an update", () => {
  it("changes what its mask names, and nothing else", async () => {
    await running("masked", { labels: { env: "dev", team: "red" }, env: { A: "1" } });
    await ada.vms.updateVm({
      vm: "masked",
      value: {
        deleteProtection: true,
        spec: { labels: { env: "prod" }, env: { B: "2" }, restartPolicy: RestartPolicy.RESTART_POLICY_ALWAYS },
      },
      updateMask: ["spec.labels.env", "spec.labels.team", "spec.restart_policy"],
    });
    expect(await get("masked")).toMatchObject({
      deleteProtection: false,
      spec: { labels: { env: "prod" }, env: { A: "1" }, restartPolicy: RestartPolicy.RESTART_POLICY_ALWAYS },
    });
  });

  it.each([
    [[], "update_mask: names nothing"],
    [["spec.disk_bytes"], 'update_mask: "spec.disk_bytes" cannot be updated'],
    [["spec.labels."], 'update_mask: "spec.labels." cannot be updated'],
    [["spec.cpu_millis"], "spec.cpu_millis: must be 100 to 64000, got 7"],
    [["spec.env"], 'spec.env: "not a name" is not a variable name'],
  ])("with the mask %j is refused and changes nothing", async (updateMask, message) => {
    const vm = "refuses-updates";
    const before = await get(vm).catch(() => running(vm));
    const value = { spec: { cpuMillis: 7, env: { "not a name": "" } } };
    await expect(ada.vms.updateVm({ vm, value, updateMask })).rejects.toThrow(message);
    expect((await get(vm)).generation).toBe(before.generation);
  });

  it("of a running VM's size takes what it grows by at once, gives back what it shrinks by at its next start, and never exceeds its node", async () => {
    const taken = async (id: string): Promise<unknown> =>
      (await pitwall.query("select cpu_millis from vm where id = $1", [id]))[0]?.["cpu_millis"];
    const { id } = await running("sized", { cpuMillis: 1_000 });
    await ada.vms.updateVm({ vm: id, value: { spec: { cpuMillis: 2_000 } }, updateMask: ["spec.cpu_millis"] });
    expect(await taken(id)).toBe(2_000);
    await ada.vms.updateVm({ vm: id, value: { spec: { cpuMillis: 500 } }, updateMask: ["spec.cpu_millis"] });
    expect(await taken(id)).toBe(2_000);
    await expect(ada.vms.updateVm({ vm: id, value: { spec: { cpuMillis: 64_000 } }, updateMask: ["spec.cpu_millis"] })).rejects.toThrow(
      "RESOURCE_EXHAUSTED: the node of the VM sized has no room for it at this moment",
    );
    await ada.vms.stopVm({ vm: id });
    await until(id, Phase.PHASE_STOPPED);
    expect(await taken(id)).toBe(500);
  });
});

describe("a name", () => {
  it("can be changed, unless it is another VM's", async () => {
    await running("old-name");
    await running("taken-name");
    await expect(ada.vms.renameVm({ vm: "old-name", name: "taken-name" })).rejects.toThrow(
      "ALREADY_EXISTS: name: the project has a VM called taken-name",
    );
    await expect(ada.vms.renameVm({ vm: "old-name", name: "Not A Name" })).rejects.toThrow("INVALID_ARGUMENT: name: must be");
    const { vm } = await ada.vms.renameVm({ vm: "old-name", name: "new-name" });
    expect(vm?.name).toBe("new-name");
    await expect(get("old-name")).rejects.toThrow("NOT_FOUND");
    expect(await node.isTold(({ vmName }) => vmName === "new-name")).toMatchObject({ vmId: vm?.id });
  });
});

describe("a VM's end", () => {
  it("comes by itself when its time is over, not before, and not while it is protected", async () => {
    const short = await running("short", {}, { ttl: { seconds: 3_600n, nanos: 0 } });
    expect(short.expireTime?.getTime()).toBeGreaterThan(Date.now() + 3_500_000);
    const guarded = await running("guarded", {}, { ttl: { seconds: 3_600n, nanos: 0 }, deleteProtection: true });
    const extended = await ada.vms.extendVm({ vm: "short", ttl: { seconds: 7_200n, nanos: 0 } });
    expect(extended.vm?.expireTime?.getTime()).toBeGreaterThan(Date.now() + 7_100_000);
    await pitwall.query("update vm set expire_time = now() where id = any($1)", [[short.id, guarded.id]]);
    expect((await until(short.id, Phase.PHASE_GONE)).phase).toBe(Phase.PHASE_GONE);
    await ada.vms.updateVm({ vm: "guarded", value: { deleteProtection: false }, updateMask: ["delete_protection"] });
    expect((await until(guarded.id, Phase.PHASE_GONE)).phase).toBe(Phase.PHASE_GONE);
    const entries = await pitwall.query("select actor, detail->>'why' as why from audit_entry where object = $1 and action = 'VmDue'", [
      `vm/${short.id}`,
    ]);
    expect(entries).toEqual([{ actor: "system", why: "expired" }]);
  });

  it("is refused while the VM is protected", async () => {
    await running("protected", {}, { deleteProtection: true });
    await expect(ada.vms.deleteVm({ vm: "protected" })).rejects.toThrow("FAILED_PRECONDITION: the VM protected is protected from deletion");
  });

  it.each([
    [0, "ttl: must be 1 second to 10 years, got 0 s"],
    [-5, "ttl: must be 1 second to 10 years, got -5 s"],
    [1e10, "ttl: must be 1 second to 10 years"],
  ])("cannot be %i seconds from now", async (seconds, message) => {
    const ttl = { seconds: BigInt(seconds), nanos: 0 };
    await expect(ada.vms.createVm({ name: "no-time", spec: { image: pitwall.image }, ttl })).rejects.toThrow(message);
  });
});

describe("an end that an update sets", () => {
  const set = (expireTime: Date | undefined): Promise<string> =>
    refusalOf(ada.vms.updateVm({ vm: "ends", value: { expireTime }, updateMask: ["expire_time"] }));
  it("is in the future, at most 10 years from now, and stays if it is named as it is", async () => {
    await running("ends");
    const refused = "INVALID_ARGUMENT value.expire_time: must be 1 second to 10 years from now, or absent: never";
    for (const at of [0, Date.now() - 1_000, Date.now() + 11 * 366 * 86_400_000]) expect(await set(new Date(at))).toBe(refused);
    expect(await refusalOf(ada.vms.updateVm({ vm: "ends", value: { expireTime: new Date(0) }, updateMask: ["*"] }))).toMatch(/^INVALID/);
    expect((await get("ends")).expireTime).toBeUndefined();
    const at = new Date(Date.now() + 3_600_000);
    expect(await set(at)).toBe("OK");
    expect((await get("ends")).expireTime).toEqual(at);
    expect(await set(undefined)).toBe("OK");
    expect((await get("ends")).expireTime).toBeUndefined();
  });
});

describe("in a project that keeps deleted VMs", () => {
  let carol: Calls;
  const create = async (name: string): Promise<string> => {
    const { vm } = await carol.vms.createVm({ name, spec: { image: pitwall.image, cpuMillis: 100 } });
    await carol.vms.waitVm({ vm: vm?.id ?? "" });
    return vm?.id ?? "";
  };
  beforeAll(async () => {
    carol = await pitwall.as("carol");
    await carol.vms.listVms({});
    await pitwall.query("update project set undelete_window_ms = 3600000 where personal_of = 'carol'");
  });

  it("a deleted VM stops, keeps everything, is listed on request, and comes back as it was", async () => {
    const id = await create("back");
    const { plan } = await carol.vms.deleteVm({ vm: "back", validateOnly: true });
    expect(plan?.losses).toEqual(["what the VM back has in memory"]);
    await carol.vms.updateVm({
      ...{ vm: id, updateMask: ["ingress.host", "ingress.public_ports"] },
      value: { ingress: { host: "back-door", publicPorts: [80, 443] } },
    });
    expect((await carol.vms.deleteVm({ vm: id, validateOnly: true })).plan?.losses).toEqual([
      "what the VM back has in memory",
      "the host back-door of the VM back",
      "that the ports 80, 443 of the VM back are open to everybody",
    ]);
    await carol.vms.deleteVm({ vm: "back" });
    await carol.vms.waitVm({ vm: id, phases: [Phase.PHASE_STOPPED] });
    const names = async (request: object): Promise<string[]> => (await carol.vms.listVms(request)).vms.map(({ name }) => name);
    expect(await names({})).not.toContain("back");
    expect(await names({ showDeleted: true })).toContain("back");
    await expect(carol.vms.getVm({ vm: "back" })).rejects.toThrow("NOT_FOUND");
    await expect(carol.vms.startVm({ vm: id })).rejects.toThrow("the VM back is deleted: that does not allow start (undelete it first)");
    const { vm } = await carol.vms.undeleteVm({ vm: id });
    expect(vm).toMatchObject({ id, name: "back", desired: Desired.DESIRED_STOPPED, deleteTime: undefined, purgeTime: undefined });
    await carol.vms.startVm({ vm: "back" });
    expect((await carol.vms.waitVm({ vm: "back" })).vm?.phase).toBe(Phase.PHASE_RUNNING);
  });

  it("its name may be given away; it then comes back under another", async () => {
    const id = await create("wanted");
    await carol.vms.deleteVm({ vm: id });
    await create("wanted");
    await expect(carol.vms.undeleteVm({ vm: id })).rejects.toThrow("ALREADY_EXISTS: name: the project has a VM called wanted");
    expect((await carol.vms.undeleteVm({ vm: id, name: "unwanted" })).vm?.name).toBe("unwanted");
  });

  it("once the time is over it is gone, and cannot be brought back", async () => {
    const id = await create("late");
    await carol.vms.deleteVm({ vm: id });
    await pitwall.query("update vm set purge_time = now() where id = $1", [id]);
    await expect(carol.vms.undeleteVm({ vm: id })).rejects.toThrow(
      /can no longer be brought back|is deleting: that does not allow undelete|NOT_FOUND/,
    );
    await node.isTold(({ vmId, desired }) => vmId === id && desired === Desired.DESIRED_DELETED);
  });

  it("deleted once more, it goes for good", async () => {
    const id = await create("twice");
    await carol.vms.deleteVm({ vm: id });
    const { plan } = await carol.vms.deleteVm({ vm: id, validateOnly: true });
    expect(plan?.losses).toEqual(["the VM twice and its disk of 4096 MiB"]);
    await carol.vms.deleteVm({ vm: id });
    await node.isTold(({ vmId, desired }) => vmId === id && desired === Desired.DESIRED_DELETED);
  });
});

describe("a list", () => {
  let dora: Calls;
  const names = async (request: object): Promise<string[]> => (await dora.vms.listVms(request)).vms.map(({ name }) => name);
  beforeAll(async () => {
    dora = await pitwall.as("dora");
    const make = (name: string, labels: Record<string, string>): Promise<unknown> =>
      dora.vms.createVm({ name, spec: { image: pitwall.image, cpuMillis: 100, labels } });
    await make("web-1", { env: "prod", tier: "web" });
    await make("web-2", { env: "dev", tier: "web" });
    await make("db", { env: "prod" });
    await make("a-b", {});
    for (const vm of ["web-1", "web-2", "db", "a-b"]) await dora.vms.waitVm({ vm });
    await dora.vms.stopVm({ vm: "db" });
    await dora.vms.waitVm({ vm: "db", phases: [Phase.PHASE_STOPPED] });
  });

  it.each([
    ["", ["a-b", "db", "web-1", "web-2"]],
    ["phase = RUNNING AND labels.env = prod", ["web-1"]],
    ['name = "web*" AND NOT labels.env = "prod"', ["web-2"]],
    ["labels.env != prod", ["a-b", "web-2"]],
    ["phase = STOPPED OR name = a-b", ["a-b", "db"]],
    ["node = one AND owner = dora AND project = dora AND create_time > 2020-01-01", ["a-b", "db", "web-1", "web-2"]],
    ["create_time > 2999-01-01T00:00:00Z", []],
    ["expire_time > 2020-01-01", []],
    ["delete_protection = false AND desired = STOPPED", ["db"]],
    [`name = "'; drop table vm; --"`, []],
  ])("with the filter %s", async (filter, expected) => {
    expect(await names({ filter })).toEqual(expected);
  });

  it("can be in another order", async () => {
    expect(await names({ orderBy: "name desc" })).toEqual(["web-2", "web-1", "db", "a-b"]);
    expect(await names({ orderBy: "create_time" })).toEqual(["web-1", "web-2", "db", "a-b"]);
    expect((await names({ orderBy: "phase desc" }))[0]).toBe("db");
    await expect(names({ orderBy: "size" })).rejects.toThrow("order_by: must be one of name, create_time, update_time, phase");
  });

  it.each(["name", "name desc", "create_time desc", "update_time", "phase"])(
    "by %s comes in pages that hold everything once",
    async (orderBy) => {
      const seen: string[] = [];
      for (let pageToken = ""; ;) {
        const page = await dora.vms.listVms({ orderBy, pageSize: 1, pageToken });
        seen.push(...page.vms.map(({ name }) => name));
        pageToken = page.nextPageToken;
        if (pageToken === "") break;
      }
      expect(seen).toEqual(await names({ orderBy }));
    },
  );

  it("goes on only as it began, and only with a token that was given", async () => {
    const { nextPageToken: pageToken } = await dora.vms.listVms({ pageSize: 1, filter: "labels.env = prod" });
    await expect(names({ pageToken, filter: "labels.env = dev" })).rejects.toThrow("page_token: is of another list");
    await expect(names({ pageToken: `${pageToken}x`, filter: "labels.env = prod" })).rejects.toThrow(
      "page_token: is not a `next_page_token`",
    );
    const eve = await pitwall.as("eve");
    await expect(eve.vms.listVms({ pageToken, filter: "labels.env = prod" })).rejects.toThrow("page_token: is of another list");
  });

  it("says where a filter is wrong, for programs too", async () => {
    const error: unknown = await dora.vms.listVms({ filter: "colour = red" }).catch((thrown: unknown) => thrown);
    expect(String(error)).toContain('INVALID_ARGUMENT: filter: at character 1: there is no field "colour"');
  });

  it("of all projects shows those that the caller has a role in, and no others", async () => {
    expect(await names({ project: "-" })).toEqual(["a-b", "db", "web-1", "web-2"]);
    await expect(names({ project: "ada" })).rejects.toThrow('NOT_FOUND: there is no project "ada"');
  });
});

it("a read of at least a generation is of that generation, or UNAVAILABLE", async () => {
  const { generation } = await running("fresh");
  expect((await ada.vms.getVm({ vm: "fresh", minGeneration: generation })).vm?.generation).toBe(generation);
  await expect(ada.vms.getVm({ vm: "fresh", minGeneration: generation + 1n })).rejects.toThrow("UNAVAILABLE: min_generation:");
});
