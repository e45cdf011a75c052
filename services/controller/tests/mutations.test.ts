// One request, one effect: request ids, etags, plans and the audit log, over the wire and on a real database.
import { randomUUID } from "node:crypto";
import { join } from "node:path";
import { CreateVmRequest, Desired, Phase, VmServiceDefinition, VmSpec, type CreateVmResponse } from "@pitwall/proto/pitwall/v1/vm.ts";
import { ClientError, createClient, Metadata, Status } from "nice-grpc";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { startControllers, type Calls, type TestControllers } from "./support/controllers.ts";
import { writeLayout } from "./support/layout.ts";
import { startNode, type TestNode } from "./support/node.ts";
import { refusalOf } from "./support/refusals.ts";

let pitwall: TestControllers;
let nodes: TestNode[];
let ada: Calls;

beforeAll(async () => {
  pitwall = await startControllers(2);
  nodes = [await startNode(pitwall, { name: "one" }), await startNode(pitwall, { name: "two", controller: 1 })];
  ada = await pitwall.as("ada");
});
afterAll(async () => {
  for (const node of nodes ?? []) await node[Symbol.asyncDispose]();
  await pitwall?.[Symbol.asyncDispose]();
});

const count = async (sql: string, ...values: unknown[]): Promise<number> => {
  const [row] = await pitwall.query(`select count(*)::int as n ${sql}`, values);
  return Number(row?.["n"]);
};
const create = async (name: string, more: object = {}): Promise<string> =>
  (await ada.vms.createVm({ name, spec: { image: pitwall.image }, ...more })).vm?.id ?? "";

/** As a client does that is told to try again. */
async function insist(call: () => Promise<CreateVmResponse>): Promise<string> {
  for (;;) {
    try {
      return (await call()).vm?.id ?? "";
    } catch (error) {
      if (!(error instanceof ClientError && error.code === Status.UNAVAILABLE)) throw error;
    }
  }
}

it("an entry under a name that decoding would lose is refused, and its field named", async () => {
  const { createVm } = VmServiceDefinition.methods;
  const as = (message: CreateVmRequest): typeof createVm => ({
    ...createVm,
    requestType: { ...createVm.requestType, fromPartial: () => message }, // ours would lose it before it is sent
  });
  const metadata = Metadata({ authorization: `Bearer ${await pitwall.token("ada")}` });
  for (const field of ["env", "labels"] as const) {
    const spec = { ...VmSpec.fromPartial({ image: pitwall.image }), [field]: Object.fromEntries([["__proto__", "x"]]) };
    const method = as({ ...CreateVmRequest.fromPartial({ name: "lossy" }), spec });
    const client = createClient({ ...VmServiceDefinition, methods: { createVm: method } }, pitwall.channel);
    expect(await refusalOf(client.createVm({}, { metadata }))).toBe(`INVALID_ARGUMENT spec.${field}: may not hold "__proto__" as a name`);
  }
  expect(await count("from vm where name = 'lossy'")).toBe(0);
});

describe("a request id", () => {
  it("that is repeated gets the first answer, also from another controller, and makes nothing twice", async () => {
    const request = { name: "once", spec: { image: pitwall.image }, requestId: randomUUID() };
    const first = await ada.vms.createVm(request);
    await ada.vms.waitVm({ vm: "once" });
    const again = await (await pitwall.as("ada", 1)).vms.createVm(request);
    expect(again).toEqual(first);
    expect(await count("from audit_entry where object = $1", `vm/${first.vm?.id}`)).toBe(1);
  });

  it("is remembered for each kind of change", async () => {
    const id = await create("kinds");
    const requestId = randomUUID();
    const stopped = await ada.vms.stopVm({ vm: id, requestId });
    await ada.vms.startVm({ vm: id });
    expect(await ada.vms.stopVm({ vm: id, requestId })).toEqual(stopped);
    expect((await ada.vms.getVm({ vm: id })).vm?.desired).toBe(Desired.DESIRED_RUNNING);
  });

  it("is refused with another body, and for another method", async () => {
    const requestId = randomUUID();
    await create("body", { requestId });
    await expect(create("another-body", { requestId })).rejects.toThrow("request_id: was used for another request");
    await expect(ada.vms.stopVm({ vm: "body", requestId })).rejects.toThrow("request_id: was used for another request");
    expect((await ada.vms.getVm({ vm: "body" })).vm?.desired).toBe(Desired.DESIRED_RUNNING);
  });

  it("of somebody else is another one", async () => {
    const requestId = randomUUID();
    await create("mine", { requestId });
    const bob = await pitwall.as("bob");
    const { vm } = await bob.vms.createVm({ name: "mine", spec: { image: pitwall.image }, requestId });
    expect(vm?.owner).toBe("bob");
  });

  it("that is no UUID is refused", async () => {
    await expect(create("no-uuid", { requestId: "1" })).rejects.toThrow("request_id: must be a UUID in lower case");
  });

  it("that failed is not remembered", async () => {
    const requestId = randomUUID();
    await expect(ada.vms.stopVm({ vm: "later", requestId })).rejects.toThrow("there is no VM");
    await create("later");
    expect((await ada.vms.stopVm({ vm: "later", requestId })).vm?.desired).toBe(Desired.DESIRED_STOPPED);
  });

  it("is remembered for a day", async () => {
    const requestId = randomUUID();
    const id = await create("day", { requestId });
    await pitwall.query("update request set create_time = now() - interval '23 hours' where request_id = $1", [requestId]);
    expect(await create("day", { requestId })).toBe(id);
  });
});

it("500 creates, each sent three times to two controllers at once, make each VM exactly once", { timeout: 300_000 }, async () => {
  const callers = [ada, await pitwall.as("ada", 1)];
  await pitwall.query(
    "update project set quota_vms = 10000, quota_cpu_millis = 10000000, quota_mem_bytes = 1e15, quota_disk_bytes = 1e16, quota_addresses = 10000",
  );
  const before = await count("from vm");
  const wanted = Array.from({ length: 500 }, (_, index) => ({
    ...{ name: `many-${index}`, requestId: randomUUID(), spec: { image: pitwall.image, cpuMillis: 100 } },
  }));
  const answers = await Promise.all(wanted.flatMap((request) => [0, 1, 0].map((to) => insist(() => callers[to]!.vms.createVm(request)))));
  expect(new Set(answers).size).toBe(500);
  for (let at = 0; at < answers.length; at += 3) expect(new Set(answers.slice(at, at + 3)).size).toBe(1);
  expect((await count("from vm")) - before).toBe(500);
  expect(await count("from audit_entry where action = 'VmService/CreateVm' and detail->>'name' like 'many-%'")).toBe(500);
  await Promise.all([...new Set(answers)].map((id) => Promise.any(nodes.map((node) => node.isTold(({ vmId }) => vmId === id)))));
  const allocations = await pitwall.query(
    `select vm_count = (select count(*) from vm where node_id = a.node_id) as vms,
       cpu_millis = (select sum(cpu) from vm, lateral vm_takes(vm) where node_id = a.node_id) as cpu from node_allocation a`,
  );
  expect(allocations.length).toBeGreaterThan(0);
  for (const allocation of allocations) expect(allocation).toEqual({ vms: true, cpu: true });
});

describe("an etag", () => {
  it("that is the latest lets a change through; an older one is ABORTED and says so", async () => {
    const id = await create("tagged");
    const { vm } = await ada.vms.waitVm({ vm: id });
    await ada.vms.stopVm({ vm: id, etag: vm?.etag ?? "" });
    await expect(ada.vms.startVm({ vm: id, etag: vm?.etag ?? "" })).rejects.toThrow(
      /ABORTED: etag: the VM tagged has changed since it was read/,
    );
  });
});

describe("a plan", () => {
  it("changes nothing, and leaves nothing behind", async () => {
    const traces = async (): Promise<number[]> => Promise.all(["vm", "audit_entry", "request"].map((table) => count(`from ${table}`)));
    await ada.vms.listVms({}); // makes their project, the first time
    const before = await traces();
    const { vm, plan } = await ada.vms.createVm({
      name: "planned",
      spec: { image: pitwall.image },
      validateOnly: true,
      requestId: randomUUID(),
    });
    expect(vm).toMatchObject({ name: "planned", nodeId: plan?.nodeId, generation: 1n });
    expect(nodes.map(({ id }) => id)).toContain(plan?.nodeId);
    expect(plan).toMatchObject({
      nodeName: expect.stringMatching(/^(one|two)$/) as string,
      policy: expect.stringContaining("owner") as string,
    });
    expect(await traces()).toEqual(before);
    expect(vm?.id).toBe(""); // drawn when it is made
    expect(await count("from vm_event where position('planned'::bytea in body) > 0")).toBe(0);
    await expect(ada.vms.getVm({ vm: "planned" })).rejects.toThrow("NOT_FOUND");
  });

  it("is applied by its token, on the node that it named", async () => {
    const request = { name: "applied", spec: { image: pitwall.image } };
    const { plan } = await ada.vms.createVm({ ...request, validateOnly: true });
    const { vm } = await ada.vms.createVm({ ...request, planToken: plan?.token ?? "" });
    expect(vm).toMatchObject({ name: "applied", nodeId: plan?.nodeId });
  });

  it("of a VM without a name is applied under the one that it said, once", async () => {
    const request = { spec: { image: pitwall.image } };
    const { plan, vm: planned } = await ada.vms.createVm({ ...request, validateOnly: true });
    const apply = { ...request, planToken: plan?.token ?? "" };
    const { vm } = await ada.vms.createVm(apply);
    expect(vm).toMatchObject({ name: planned?.name, nodeId: plan?.nodeId, imageDigest: planned?.imageDigest });
    await expect(ada.vms.createVm(apply)).rejects.toThrow("ABORTED: plan_token: the plan no longer holds: its name is another VM's");
  });

  it("is ABORTED once its image's reference stands for another image", async () => {
    const layout = join(pitwall.dir, "moving-tag");
    const request = { name: "tag-moved", spec: { image: await writeLayout(layout) } };
    const { plan, vm: planned } = await ada.vms.createVm({ ...request, validateOnly: true });
    await writeLayout(layout, ["/bin/false"]);
    await expect(ada.vms.createVm({ ...request, planToken: plan?.token ?? "" })).rejects.toThrow(
      new RegExp(
        `ABORTED: plan_token: the plan no longer holds: oci:.* stands for sha256:[0-9a-f]+ now, not for ${planned?.imageDigest}; plan again`,
      ),
    );
    await writeLayout(layout);
    const { vm } = await ada.vms.createVm({ ...request, planToken: plan?.token ?? "" });
    expect(vm?.imageDigest).toBe(planned?.imageDigest);
  });

  it("says what is lost, and is ABORTED once the VM has changed", async () => {
    const id = await create("doomed");
    await ada.vms.waitVm({ vm: id });
    const { plan } = await ada.vms.deleteVm({ vm: id, validateOnly: true });
    expect(plan?.losses).toEqual(["the VM doomed and its disk of 4096 MiB"]);
    await ada.vms.stopVm({ vm: id });
    await expect(ada.vms.deleteVm({ vm: id, planToken: plan?.token ?? "" })).rejects.toThrow(
      /ABORTED: plan_token: the plan no longer holds: the VM doomed has changed: its etag is \d+, not \d+; plan again/,
    );
    expect((await ada.vms.getVm({ vm: id })).vm?.desired).toBe(Desired.DESIRED_STOPPED);
  });

  it("is of its own request and caller only", async () => {
    const { plan } = await ada.vms.createVm({ name: "own", spec: { image: pitwall.image }, validateOnly: true });
    const planToken = plan?.token ?? "";
    await expect(create("other", { planToken })).rejects.toThrow("plan_token: is of another request");
    const bob = await pitwall.as("bob");
    await expect(bob.vms.createVm({ name: "own", spec: { image: pitwall.image }, planToken })).rejects.toThrow(
      "plan_token: is of another request",
    );
    await expect(create("own", { planToken: `${planToken}x` })).rejects.toThrow("plan_token: is not a token that `validate_only` returned");
  });
});

it("every accepted change has one entry in the audit log; a refused one has none", async () => {
  const id = await create("audited");
  await ada.vms.stopVm({ vm: id });
  await ada.vms.startVm({ vm: id });
  await expect(ada.vms.stopVm({ vm: id, etag: "1" })).rejects.toThrow("ABORTED");
  await ada.vms.deleteVm({ vm: id });
  expect((await ada.vms.waitVm({ vm: id, phases: [Phase.PHASE_GONE] })).vm?.phase).toBe(Phase.PHASE_GONE);
  const entries = await pitwall.query("select actor, action, generation::int from audit_entry where object = $1 order by seq", [
    `vm/${id}`,
  ]);
  expect(entries).toEqual(
    ["CreateVm", "StopVm", "StartVm", "DeleteVm"].map((name, at) => ({ actor: "ada", action: `VmService/${name}`, generation: at + 1 })),
  );
});
