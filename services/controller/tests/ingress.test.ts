// Ports of VMs by HTTP: names below the gateways' domain, ports that are open to everybody, and grants; decided for gateways.
import { randomBytes } from "node:crypto";
import type { AccessServiceDefinition, Caller, OpenTunnelResponse } from "@pitwall/proto/pitwall/v1/access.ts";
import { ProjectRole } from "@pitwall/proto/pitwall/v1/project.ts";
import { Phase, type Ingress, type Vm } from "@pitwall/proto/pitwall/v1/vm.ts";
import type { Client } from "nice-grpc";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { admin, startControllers, type Calls, type TestControllers } from "./support/controllers.ts";
import { startNode, type TestNode } from "./support/node.ts";
import { refusalOf } from "./support/refusals.ts";
import { joinGateway } from "./support/spoken-node.ts";

const parts = new AsyncDisposableStack();
let pitwall: TestControllers;
let ada: Calls;
let bob: Calls;
let gateway: Client<typeof AccessServiceDefinition>;
let vmId: string;
let node: TestNode;

beforeAll(async () => {
  pitwall = parts.use(await startControllers(2));
  node = parts.use(await startNode(pitwall, { name: "one" }));
  ada = await pitwall.as("ada");
  bob = await pitwall.as("bob");
  await ada.projects.createProject({ name: "team" });
  await ada.vms.createVm({ project: "team", name: "web", spec: { image: pitwall.image } });
  await bob.vms.createVm({ name: "web", spec: { image: pitwall.image } });
  vmId = (await ada.vms.waitVm({ vm: "team/web" })).vm?.id ?? "";
  await bob.vms.waitVm({ vm: "web" });
  const door = parts.use(await joinGateway(pitwall, await pitwall.as(admin), "door"));
  gateway = door.access(pitwall.controllers[1]?.link ?? ""); // the one that does not make the grants
}, 120_000);
afterAll(() => parts.disposeAsync());

async function set(calls: Calls, vm: string, ingress: Partial<Ingress>): Promise<Vm | undefined> {
  const names = { host: "ingress.host", port: "ingress.port", publicPorts: "ingress.public_ports" } as const;
  const updateMask = (Object.keys(ingress) as (keyof typeof names)[]).map((key) => names[key]); // its own keys
  return (await calls.vms.updateVm({ vm, value: { ingress }, updateMask })).vm;
}

/** As if 90 days had passed, which is how long the names that rest now have to. */
async function rested(): Promise<void> {
  const rows = await pitwall.query("select extract(epoch from until_time - now()) / 86400 as days from host_tombstone where host = 'web'");
  expect(Number(rows[0]?.["days"])).toBeCloseTo(90, 1);
  await pitwall.query("update host_tombstone set until_time = now()");
}

const anybody: Caller = { credential: { $case: "anonymous", value: {} } };
const withGrant = (grant: string): Caller => ({ credential: { $case: "ingressGrant", value: grant } });
const withToken = async (who: string): Promise<Caller> => ({ credential: { $case: "bearerToken", value: await pitwall.token(who) } });

async function open(caller: Caller, host: string, port = 0): Promise<OpenTunnelResponse> {
  return gateway.openTunnel({
    ...{ caller, host, target: { target: { $case: "tcp", value: { port } } } },
    ...{ token: randomBytes(32).toString("base64url"), gatewayAddress: "127.0.0.1:1" },
  });
}

const isLost = async (caller: Caller, host: string, port: number): Promise<boolean> =>
  (await gateway.checkTunnels({ tunnels: [{ caller, host, port }] })).lost.length > 0;

describe("a name below the domain", () => {
  it("is one VM's in the whole installation, and its project's for 90 days after it gives it up or is deleted", async () => {
    expect(await set(ada, "team/web", { host: "web" })).toMatchObject({ ingress: { host: "web", port: 80, publicPorts: [] } });
    expect(await refusalOf(set(bob, "web", { host: "web" }))).toMatch(/^ALREADY_EXISTS ingress\.host: web is the name of another VM/);
    expect(await open(await withToken("ada"), "web")).toMatchObject({ vmId, port: 80 });
    await set(ada, "team/web", { host: "" });
    expect(await refusalOf(set(bob, "web", { host: "web" }))).toBe(
      "ALREADY_EXISTS ingress.host: web is the name of another VM, or was one's in another project not long ago; choose another one",
    );
    expect(await set(ada, "team/web", { host: "web" })).toMatchObject({ ingress: { host: "web" } });
    await set(ada, "team/web", { host: "" });
    await rested();
    expect(await set(bob, "web", { host: "web" })).toMatchObject({ ingress: { host: "web" } });
    await bob.vms.createVm({ name: "gone", spec: { image: pitwall.image } });
    await set(bob, "web", { host: "" });
    await set(bob, "gone", { host: "web", publicPorts: [80] }); // of the same project
    await bob.vms.deleteVm({ vm: "gone" });
    expect(await refusalOf(set(ada, "team/web", { host: "web" }))).toMatch(/^ALREADY_EXISTS /);
    await rested();
    expect(await set(ada, "team/web", { host: "web" })).toMatchObject({ ingress: { host: "web" } });
  });

  it("is nobody else's either who asks for it in the moment in which it is given up", async () => {
    for (let round = 0; round < 10; round++) {
      const host = `raced-${round}`;
      await set(ada, "team/web", { host });
      await Promise.all([set(ada, "team/web", { host: "" }), refusalOf(set(bob, "web", { host }))]);
      expect((await bob.vms.getVm({ vm: "web" })).vm?.ingress?.host).toBe("");
    }
    await set(ada, "team/web", { host: "web" });
  });

  it.each([
    ["Web", "must be 1 to 63 lower-case letters"],
    ["-web", "must be 1 to 63 lower-case letters"],
    ["8080-web", "must be 1 to 63 lower-case letters"],
    ["a".repeat(58), "has at most 57 letters"],
    ["abcdef12-9d1e-4c3a-8f60-1d2e3f4a5b6c", "looks like a VM's id"],
  ])("cannot be %s", async (host, why) =>
    expect(await refusalOf(set(ada, "team/web", { host }))).toContain(`INVALID_ARGUMENT ingress.host: ${why}`),
  );

  it("leads whoever may enter to the port that is meant, by id, too", async () => {
    expect(await open(await withToken("ada"), "web", 8080)).toMatchObject({ vmId, port: 8080 });
    expect(await open(await withToken("ada"), vmId)).toMatchObject({ vmId, port: 80 });
    await set(ada, "team/web", { port: 3000 });
    expect(await open(await withToken("ada"), "web")).toMatchObject({ vmId, port: 3000 });
    await set(ada, "team/web", { port: 0 });
    expect(await open(await withToken("ada"), "web")).toMatchObject({ vmId, port: 80 });
  });

  it("tells strangers no more than a name that is nobody's, and nobody that it is there", async () => {
    const refused = async (caller: Caller): Promise<string[]> =>
      Promise.all(["web", "other", vmId].map(async (host) => (await refusalOf(open(caller, host))).replaceAll(host, "HOST")));
    const strangers = await refused(await withToken("bob"));
    expect(new Set(strangers)).toEqual(new Set(['NOT_FOUND there is no VM "HOST"']));
    const nobody = await refused(anybody);
    expect(new Set(nobody).size).toBe(1);
    expect(nobody[0]).toMatch(/^UNAUTHENTICATED /);
  });

  it("is no name of a VM elsewhere: bob's own VM of that name is not meant", async () => {
    await set(ada, "team/web", { host: "" });
    expect(await refusalOf(open(await withToken("bob"), "web"))).toMatch(/^NOT_FOUND /);
    await set(ada, "team/web", { host: "web" });
  });

  it("is for TCP alone, and a port is needed without one", async () => {
    const more = { token: randomBytes(32).toString("base64url"), gatewayAddress: "127.0.0.1:1" };
    const ssh = { caller: anybody, host: "web", target: { target: { $case: "ssh" as const, value: { sessionKey: "" } } } };
    expect(await refusalOf(gateway.openTunnel({ ...ssh, ...more }))).toMatch(/^INVALID_ARGUMENT host: /);
    const none = { caller: anybody, vm: vmId, target: { target: { $case: "tcp" as const, value: { port: 0 } } } };
    expect(await refusalOf(gateway.openTunnel({ ...none, ...more }))).toMatch(/^INVALID_ARGUMENT target\.tcp\.port: /);
  });
});

describe("a port that is public", () => {
  it("is open to everybody, and no other port is; made private, what is open ends", async () => {
    expect(await set(ada, "team/web", { publicPorts: [8080, 80, 80] })).toMatchObject({ ingress: { publicPorts: [80, 8080] } });
    expect(await open(anybody, "web")).toMatchObject({ vmId, port: 80 });
    expect(await open(anybody, "web", 8080)).toMatchObject({ vmId, port: 8080 });
    expect(await open(await withToken("bob"), "web")).toMatchObject({ vmId });
    expect(await refusalOf(open(anybody, "web", 22))).toMatch(/^UNAUTHENTICATED /);
    expect(await isLost(anybody, vmId, 80)).toBe(false);
    await set(ada, "team/web", { publicPorts: [8080] });
    expect(await isLost(anybody, vmId, 80)).toBe(true);
    expect(await isLost(anybody, vmId, 8080)).toBe(false);
    expect(await refusalOf(open(anybody, "web"))).toMatch(/^UNAUTHENTICATED /);
  });

  it("is its members' to publish, and has an entry in the audit log", async () => {
    await ada.projects.setProjectMember({ project: "team", subject: "eve", role: ProjectRole.PROJECT_ROLE_VIEWER });
    expect(await refusalOf(set(await pitwall.as("eve"), "team/web", { publicPorts: [80] }))).toMatch(/^PERMISSION_DENIED /);
    expect(await refusalOf(set(bob, "team/web", { publicPorts: [80] }))).toMatch(/^NOT_FOUND /);
    const [entry] = await pitwall.query(
      "select actor, detail->'ingress' as ingress from audit_entry where action = 'VmService/UpdateVm' order by seq desc limit 1",
    );
    expect(entry).toEqual({ actor: "ada", ingress: { host: "web", port: 80, publicPorts: [8080] } });
  });

  it("is one of 32 at most, and a port", async () => {
    const many = Array.from({ length: 33 }, (_, at) => at + 1);
    expect(await refusalOf(set(ada, "team/web", { publicPorts: many }))).toBe(
      "INVALID_ARGUMENT ingress.public_ports: has 33 ports; the limit is 32",
    );
    expect(await refusalOf(set(ada, "team/web", { publicPorts: [65_536] }))).toMatch(
      /^INVALID_ARGUMENT ingress\.public_ports: must be 1 to 65535/,
    );
  });

  it("tells outsiders neither the name nor the console of a VM that has crashed; members read both", async () => {
    const { vm } = await ada.vms.createVm({ project: "team", name: "secret-plan", spec: { image: pitwall.image } });
    const id = vm?.id ?? "";
    await set(ada, id, { host: "crashes", publicPorts: [80] });
    const generation = (await ada.vms.getVm({ vm: id })).vm?.generation ?? 0n;
    await node.isTold((assignment) => assignment.vmId === id && assignment.generation >= generation); // of which it says that it runs
    const { grant } = await ada.vms.issueIngressGrant({ vm: id, port: 8080 });
    const message = "the VM's process ended with code 1: password=hunter2";
    node.report(id, { phase: Phase.PHASE_FAILED, reason: "VM_EXITED", message });
    await expect.poll(async () => (await ada.vms.getVm({ vm: id })).vm?.message, { timeout: 10_000 }).toBe(message);
    const outsiders = [() => open(anybody, "crashes"), () => open(withGrant(grant), "crashes", 8080)];
    for (const come of outsiders) expect(await refusalOf(come())).toBe("FAILED_PRECONDITION the VM is not running");
    const ofMember = await refusalOf(open(await withToken("ada"), "crashes", 8080));
    expect(ofMember).toBe(`FAILED_PRECONDITION the VM secret-plan is not running: ${message}`);
  });

  it("tells outsiders of a lock neither the name nor the reason", async () => {
    await set(ada, "team/web", { publicPorts: [80] });
    await ada.sessions.lockVm({ vm: "team/web", reason: "case 4711" });
    const refusal = await refusalOf(open(anybody, "web"));
    await ada.sessions.unlockVm({ vm: "team/web" });
    await set(ada, "team/web", { publicPorts: [8080] });
    expect(refusal).toBe("PERMISSION_DENIED this address lets nobody in at the moment");
  });

  it("tells outsiders no name where sessions are recorded either", async () => {
    await set(ada, "team/web", { publicPorts: [22, 8080] });
    const record = async (recordSessions: boolean): Promise<unknown> =>
      ada.projects.updateProject({ project: "team", value: { recordSessions }, updateMask: ["record_sessions"] });
    await record(true);
    const refusal = await refusalOf(open(anybody, "web", 22));
    await record(false);
    await set(ada, "team/web", { publicPorts: [8080] });
    expect(refusal).toBe("FAILED_PRECONDITION sessions in the VM are recorded, which this way does not allow");
  });

  it("is nobody's when its VM's life is over, and nor is its name, although its node never says that it is gone", async () => {
    await using idle = await startNode(pitwall, { name: "two", isIdle: true, labels: { kind: "idle" } });
    const spec = { image: pitwall.image, placement: { requireLabels: ["kind=idle"] } };
    const id = (await bob.vms.createVm({ name: "expires", spec })).vm?.id ?? "";
    await idle.isTold((assignment) => assignment.vmId === id);
    await set(bob, id, { host: "expires", publicPorts: [80] });
    await bob.vms.extendVm({ vm: id, ttl: { seconds: 1n, nanos: 0 } });
    const ingressNow = async (): Promise<unknown> => (await bob.vms.getVm({ vm: id })).vm?.ingress;
    await expect.poll(ingressNow, { timeout: 15_000 }).toEqual({ host: "", port: 80, publicPorts: [] });
    expect(await refusalOf(open(anybody, "expires"))).toMatch(/^UNAUTHENTICATED /);
    expect(await set(bob, "web", { host: "expires" })).toMatchObject({ ingress: { host: "expires" } });
    await set(bob, "web", { host: "" });
  });

  it("is private again once its VM was deleted and is brought back", async () => {
    await ada.projects.updateProject({
      project: "team",
      value: { undeleteWindow: { seconds: 600n, nanos: 0 } },
      updateMask: ["undelete_window"],
    });
    const { vm } = await ada.vms.createVm({ project: "team", name: "back", spec: { image: pitwall.image } });
    await set(ada, "team/back", { host: "back", publicPorts: [80] });
    await ada.vms.deleteVm({ vm: "team/back" });
    expect(await refusalOf(open(anybody, "back"))).toMatch(/^UNAUTHENTICATED /);
    expect((await ada.vms.undeleteVm({ vm: vm?.id ?? "" })).vm?.ingress).toEqual({ host: "", port: 80, publicPorts: [] });
  });
});

describe("a grant", () => {
  const issue = async (calls: Calls, more: { port?: number; ttl?: { seconds: bigint; nanos: number } } = {}): Promise<string> =>
    (await calls.vms.issueIngressGrant({ vm: "team/web", ...more })).grant;

  it("opens the port that it was made for to whoever has it, and says where", async () => {
    const issued = await ada.vms.issueIngressGrant({ vm: "team/web" });
    expect(issued).toMatchObject({ host: "web", port: 80 });
    expect(issued.expireTime?.getTime()).toBeGreaterThan(Date.now() + 3_590_000);
    expect(await open(withGrant(issued.grant), "web")).toMatchObject({ vmId, port: 80 });
    expect(await open(withGrant(issued.grant), vmId)).toMatchObject({ vmId, port: 80 });
    expect(await isLost(withGrant(issued.grant), "web", 0)).toBe(false);
    const other = await ada.vms.issueIngressGrant({ vm: "team/web", port: 9090 });
    expect(other).toMatchObject({ host: "9090-web", port: 9090 });
    for (const [grant, host, port] of [
      [issued.grant, "web", 9090],
      [other.grant, "web", 0],
      [issued.grant, "other", 0],
      [`${issued.grant.slice(0, -2)}AA`, "web", 0],
      ["", "web", 0],
    ] as const)
      expect(await refusalOf(open(withGrant(grant), host, port))).toMatch(/^UNAUTHENTICATED /);
  });

  it("stops when it expires, also for what is open", async () => {
    const grant = await issue(ada, { ttl: { seconds: 1n, nanos: 0 } });
    await expect.poll(() => isLost(withGrant(grant), "web", 80), { timeout: 5_000 }).toBe(true);
    expect(await refusalOf(open(withGrant(grant), "web"))).toMatch(/^UNAUTHENTICATED the address that let you in has expired/);
  });

  it("stops when its maker loses the role, whatever it says itself", async () => {
    await ada.projects.setProjectMember({ project: "team", subject: "dan", role: ProjectRole.PROJECT_ROLE_MEMBER });
    const grant = await issue(await pitwall.as("dan"));
    expect(await open(withGrant(grant), "web")).toMatchObject({ vmId });
    for (const role of [ProjectRole.PROJECT_ROLE_VIEWER, undefined]) {
      if (role === undefined) await ada.projects.removeProjectMember({ project: "team", subject: "dan" });
      else await ada.projects.setProjectMember({ project: "team", subject: "dan", role });
      expect(await isLost(withGrant(grant), "web", 80)).toBe(true);
      expect(await refusalOf(open(withGrant(grant), "web"))).toMatch(/^PERMISSION_DENIED whoever made the address/);
    }
  });

  it("is made by those who may enter, for at most 7 days, with an entry in the audit log", async () => {
    expect(await refusalOf(issue(bob))).toMatch(/^NOT_FOUND /);
    await ada.projects.setProjectMember({ project: "team", subject: "eve", role: ProjectRole.PROJECT_ROLE_VIEWER });
    expect(await refusalOf(issue(await pitwall.as("eve")))).toMatch(/^PERMISSION_DENIED /);
    for (const seconds of [0n, 604_801n])
      expect(await refusalOf(issue(ada, { ttl: { seconds, nanos: 0 } }))).toMatch(/^INVALID_ARGUMENT ttl: must be 1 second to 7 days/);
    await issue(ada, { port: 22 });
    const [entry] = await pitwall.query(
      "select actor, object, detail->>'port' as port from audit_entry where action = 'VmService/IssueIngressGrant' order by seq desc limit 1",
    );
    expect(entry).toEqual({ actor: "ada", object: `vm/${vmId}`, port: "22" });
  });
});
