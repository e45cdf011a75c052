// Projects over the wire, on a real database: members, quotas, what is not one's own.
import { randomUUID } from "node:crypto";
import { ProjectRole, type Project } from "@pitwall/proto/pitwall/v1/project.ts";
import { errorDetailsClientMiddleware, RichClientError } from "nice-grpc-error-details";
import { createClientFactory, Metadata } from "nice-grpc";
import { Phase, VmServiceDefinition } from "@pitwall/proto/pitwall/v1/vm.ts";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { admin, startControllers, type Calls, type TestControllers } from "./support/controllers.ts";
import { startNode, type TestNode } from "./support/node.ts";
import { refusalOf } from "./support/refusals.ts";

const { PROJECT_ROLE_MEMBER: member, PROJECT_ROLE_OWNER: owner, PROJECT_ROLE_VIEWER: viewer } = ProjectRole;
const mib = 1_048_576n;

let pitwall: TestControllers;
let node: TestNode;
let ada: Calls;
let bob: Calls;
let root: Calls;

beforeAll(async () => {
  pitwall = await startControllers(2);
  node = await startNode(pitwall, { name: "one" });
  [ada, bob, root] = [await pitwall.as("ada"), await pitwall.as("bob"), await pitwall.as(admin)];
  await bob.projects.getProject({}); // who was never seen has no personal project
});
afterAll(async () => {
  await node?.[Symbol.asyncDispose]();
  await pitwall?.[Symbol.asyncDispose]();
});

const made = async (name: string): Promise<Project> => {
  const { project } = await ada.projects.createProject({ name });
  if (!project) throw new Error("no project in the answer");
  return project;
};

describe("a project", () => {
  it("belongs to whoever made it, is listed, renamed and removed", async () => {
    const project = await made("first");
    expect(project).toMatchObject({ name: "first", role: owner, personalOf: "", usage: { vms: 0 }, quota: { vms: 100 } });
    expect((await ada.projects.listProjects({})).projects.map(({ name }) => name)).toEqual(["ada", "first"]);
    const { project: renamed } = await ada.projects.updateProject({
      project: "first",
      value: { name: "second" },
      updateMask: ["name"],
      etag: project.etag,
    });
    expect(renamed).toMatchObject({ id: project.id, name: "second", etag: "2" });
    const change = { value: { name: "third" }, updateMask: ["name"], etag: project.etag };
    expect(await refusalOf(ada.projects.updateProject({ project: "second", ...change }))).toMatch(
      /^ABORTED etag: the project second has changed/,
    );
    await ada.projects.deleteProject({ project: project.id });
    expect(await refusalOf(ada.projects.getProject({ project: project.id }))).toMatch(/^NOT_FOUND/);
  });

  it("is made once for a request id, planned without a trace, and tells who made it", async () => {
    const request = { name: "once", requestId: randomUUID() };
    await ada.projects.createProject({ ...request, requestId: randomUUID(), validateOnly: true });
    expect(await refusalOf(ada.projects.getProject({ project: "once" }))).toMatch(/^NOT_FOUND/);
    const first = await ada.projects.createProject(request);
    expect(await (await pitwall.as("ada", 1)).projects.createProject(request)).toEqual(first);
    expect(await refusalOf(ada.projects.createProject({ ...request, name: "twice" }))).toContain("was used for another request");
    const rows = await pitwall.query("select actor, action, detail from audit_entry where object = $1", [`project/${first.project?.id}`]);
    expect(rows).toEqual([{ actor: "ada", action: "ProjectService/CreateProject", detail: { name: "once" } }]);
  });

  it.each(["", "Big", "-a", "a-", "a".repeat(64), "a b", randomUUID().replace(/^./, "a")])("is not called %j", async (name) => {
    expect(await refusalOf(ada.projects.createProject({ name }))).toMatch(/^INVALID_ARGUMENT name: must be/);
  });

  it("has a name of its own", async () => {
    expect(await refusalOf(bob.projects.createProject({ name: "once" }))).toBe(
      "ALREADY_EXISTS name: another project is called once; choose another name",
    );
  });

  it("that is personal stays, with its user as owner", async () => {
    expect(await refusalOf(ada.projects.deleteProject({ project: "ada" }))).toMatch(/^FAILED_PRECONDITION the project ada is personal/);
    await ada.projects.setProjectMember({ subject: "bob", role: owner });
    expect(await refusalOf(bob.projects.removeProjectMember({ project: "ada", subject: "ada" }))).toMatch(/^FAILED_PRECONDITION/);
    expect(await refusalOf(bob.projects.setProjectMember({ project: "ada", subject: "ada", role: member }))).toMatch(
      /^FAILED_PRECONDITION/,
    );
    await ada.projects.removeProjectMember({ subject: "bob" });
  });

  it("is not removed while it has VMs", async () => {
    await made("full");
    await ada.vms.createVm({ project: "full", name: "a", spec: { image: pitwall.image } });
    expect(await refusalOf(ada.projects.deleteProject({ project: "full" }))).toMatch(/^FAILED_PRECONDITION the project full has 1 VMs/);
  });

  it("is changed only as its mask says", async () => {
    await made("masked");
    const update = (updateMask: string[], value: object): Promise<string> =>
      refusalOf(ada.projects.updateProject({ project: "masked", updateMask, value }));
    expect(await update([], {})).toBe("INVALID_ARGUMENT update_mask: names nothing to change");
    expect(await update(["owner"], {})).toMatch(/^INVALID_ARGUMENT update_mask: "owner" cannot be changed/);
    expect(await update(["quota.vms"], { quota: { vms: 1000 } })).toBe("PERMISSION_DENIED quotas are for administrators to set");
    expect(await update(["undelete_window"], { undeleteWindow: { seconds: 31n * 86_400n } })).toMatch(
      /^INVALID_ARGUMENT value.undelete_window/,
    );
    expect(await update(["undelete_window"], { undeleteWindow: { seconds: 86_400n }, name: "ignored" })).toBe("OK");
    expect((await ada.projects.getProject({ project: "masked" })).project).toMatchObject({
      name: "masked",
      undeleteWindow: { seconds: 86_400n },
    });
  });
});

describe("members", () => {
  it("see and do what their role says", async () => {
    await made("team");
    const look = (): Promise<string> => refusalOf(bob.projects.getProject({ project: "team" }));
    const create = (name: string): Promise<string> =>
      refusalOf(bob.vms.createVm({ project: "team", name, spec: { image: pitwall.image } }));
    expect(await look()).toBe(`NOT_FOUND there is no project "team"`);
    await ada.projects.setProjectMember({ project: "team", subject: "bob", role: viewer });
    expect([await look(), await create("b1")]).toEqual([
      "OK",
      "PERMISSION_DENIED your role for the project team is viewer; this needs member",
    ]);
    await ada.projects.setProjectMember({ project: "team", subject: "bob", role: member });
    expect(await create("b1")).toBe("OK");
    const grab = bob.projects.setProjectMember({ project: "team", subject: "bob", role: owner });
    expect(await refusalOf(grab)).toMatch(/^PERMISSION_DENIED your role for the project team is member; this needs owner/);
    expect((await bob.projects.listProjectMembers({ project: "team" })).members.map(({ subject, role }) => [subject, role])).toEqual([
      ["ada", owner],
      ["bob", member],
    ]);
    await bob.projects.removeProjectMember({ project: "team", subject: "bob" }); // anybody for themselves
    expect(await look()).toMatch(/^NOT_FOUND/);
    expect(await refusalOf(ada.projects.removeProjectMember({ project: "team", subject: "bob" }))).toMatch(
      /^NOT_FOUND the project team has no member "bob"/,
    );
  });

  it("never end without an owner, also when two go at the same moment", async () => {
    await made("duo");
    expect(await refusalOf(ada.projects.removeProjectMember({ project: "duo", subject: "ada" }))).toMatch(
      /^FAILED_PRECONDITION ada is the last owner/,
    );
    await ada.projects.setProjectMember({ project: "duo", subject: "bob", role: owner });
    const both = await Promise.all([
      refusalOf(ada.projects.removeProjectMember({ project: "duo", subject: "ada" })),
      refusalOf(bob.projects.setProjectMember({ project: "duo", subject: "bob", role: viewer })),
    ]);
    expect(both.filter((one) => one === "OK")).toHaveLength(1);
    const [owners] = await pitwall.query(
      "select count(*)::int as n from project_member join project on project.id = project_id where name = 'duo' and role = 'owner'",
    );
    expect(owners?.["n"]).toBe(1);
  });

  it.each(["", "a\u0007b", "x".repeat(256)])("are not called %j", async (subject) => {
    expect(await refusalOf(ada.projects.setProjectMember({ project: "team", subject, role: member }))).toMatch(
      /^INVALID_ARGUMENT subject:/,
    );
  });
});

describe("a quota", () => {
  const limit = (project: string, quota: object): Promise<unknown> =>
    root.projects.updateProject({ project, value: { quota }, updateMask: Object.keys(quota).map((field) => `quota.${snake(field)}`) });
  const snake = (text: string): string => text.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
  const create = (name: string, spec: object = {}): Promise<unknown> =>
    ada.vms.createVm({ project: "small", name, spec: { image: pitwall.image, ...spec } });

  it("is held however many VMs are asked for at once, and refusals take nothing", async () => {
    const { id } = await made("small");
    await limit(id, { vms: 3 });
    const answers = await Promise.all(Array.from({ length: 12 }, (_, at) => refusalOf(create(`v${at}`))));
    expect(answers.filter((one) => one === "OK")).toHaveLength(3);
    expect(new Set(answers.filter((one) => one !== "OK"))).toEqual(
      new Set([
        "RESOURCE_EXHAUSTED the quota of the project small does not allow that: vms: the limit is 3, 3 are taken, 1 more are wanted. Delete VMs, or ask an administrator",
      ]),
    );
    expect((await ada.projects.getProject({ project: id })).project?.usage).toMatchObject({ vms: 3, addresses: 3 });
  });

  it("names each limit, in words and for programs", async () => {
    await limit("small", { vms: 100, cpuMillis: 1n, diskBytes: 5n });
    const id = (await ada.projects.getProject({ project: "small" })).project?.id ?? "";
    const factory = createClientFactory().use(errorDetailsClientMiddleware);
    const metadata = Metadata({ authorization: `Bearer ${await pitwall.token("ada")}` });
    const call = factory
      .create(VmServiceDefinition, pitwall.channel, { "*": { metadata } })
      .createVm({ project: "small", name: "no", spec: { image: pitwall.image, cpuMillis: 2000, diskBytes: 1024n * mib } });
    const error: unknown = await call.catch((thrown: unknown) => thrown);
    if (!(error instanceof RichClientError)) throw new Error("no details in the refusal");
    const failure = error.extra.find(({ $type }) => $type === "google.rpc.QuotaFailure");
    if (failure?.$type !== "google.rpc.QuotaFailure") throw new Error("no QuotaFailure in the details");
    const [cpu, disk, ...more] = failure.violations;
    expect([cpu?.subject, disk?.subject, more.length]).toEqual([`project/${id}/cpu_millis`, `project/${id}/disk_bytes`, 0]);
    expect(cpu?.description).toContain("the limit is 1, ");
    expect(disk?.description).toContain(`${1024n * mib} more are wanted`);
  });

  it("is not in the way of what is there, and gives back what is stopped or removed", async () => {
    const usage = async (): Promise<unknown> => (await ada.projects.getProject({ project: "small" })).project?.usage;
    await limit("small", { cpuMillis: 1_000_000n, diskBytes: 1_000_000n * mib });
    const before = await usage();
    await create("extra", { cpuMillis: 3000, memBytes: 256n * mib, diskBytes: 1024n * mib });
    await ada.vms.waitVm({ vm: "small/extra" });
    await limit("small", { vms: 1, cpuMillis: 1n, memBytes: 1n, diskBytes: 1n, addresses: 1 });
    expect(await refusalOf(ada.vms.stopVm({ vm: "small/extra" }))).toBe("OK");
    await ada.vms.waitVm({ vm: "small/extra", phases: [Phase.PHASE_STOPPED] });
    expect(await refusalOf(ada.vms.startVm({ vm: "small/extra" }))).toMatch(/^RESOURCE_EXHAUSTED .*cpu_millis: the limit is 1, /);
    expect(await refusalOf(ada.vms.deleteVm({ vm: "small/extra" }))).toBe("OK");
    await expect.poll(usage).toEqual(before);
  });

  it("is told by a plan: before, after, and the limit", async () => {
    await limit("small", { vms: 50, cpuMillis: 1_000_000n, memBytes: 1_000_000n * mib, diskBytes: 1_000_000n * mib, addresses: 50 });
    const { plan } = await ada.vms.createVm({
      project: "small",
      name: "planned",
      validateOnly: true,
      spec: { image: pitwall.image, cpuMillis: 2000 },
    });
    const before = (await ada.projects.getProject({ project: "small" })).project?.usage;
    expect(plan?.quotaBefore).toEqual(before);
    expect(plan?.quotaAfter).toMatchObject({ vms: (before?.vms ?? 0) + 1, cpuMillis: (before?.cpuMillis ?? 0n) + 2000n });
    expect(plan?.quotaLimit).toMatchObject({ vms: 50, cpuMillis: 1_000_000n });
  });

  it("adds up to what a count of the rows says", async () => {
    const differences = await pitwall.query(`
      select project_id from project_usage full join (select project_id, count(*) as n, sum((vm_takes(vm)).cpu) as cpu, sum((vm_takes(vm)).mem) as mem,
        sum(disk_bytes) as disk from vm group by project_id) as counted using (project_id)
      where (coalesce(vms, 0), coalesce(cpu_millis, 0), coalesce(mem_bytes, 0), coalesce(disk_bytes, 0))
        is distinct from (coalesce(n, 0), coalesce(cpu, 0), coalesce(mem, 0), coalesce(disk, 0))`);
    expect(differences).toEqual([]);
  });

  it("is not got round by making projects", async () => {
    const eve = await pitwall.as("eve");
    const answers: string[] = [];
    for (let at = 0; at < 25; at++) answers.push(await refusalOf(eve.projects.createProject({ name: `eve-${at}` })));
    expect(answers.filter((one) => one === "OK")).toHaveLength(19); // and the personal one
    expect(answers.at(-1)).toBe("RESOURCE_EXHAUSTED you own 20 projects; at most 20 are allowed");
  });
});

it("a stopped VM is removed from a node that is full without it", async () => {
  await using tight = await startControllers();
  await using _node = await startNode(tight, { name: "tight", capacity: { cpuMillis: 1000, memMib: 100_000, diskMib: 1_000_000 } });
  const { vms } = await tight.as("ada");
  const spec = { image: tight.image, cpuMillis: 1000 };
  await vms.createVm({ name: "first", spec });
  await vms.waitVm({ vm: "first" });
  await vms.stopVm({ vm: "first" });
  await vms.waitVm({ vm: "first", phases: [Phase.PHASE_STOPPED] });
  await vms.createVm({ name: "second", spec });
  expect(await refusalOf(vms.deleteVm({ vm: "first" }))).toBe("OK");
});

it("administrators see all projects when they ask, and others do not", async () => {
  const names = (await root.projects.listProjects({ all: true, pageSize: 1000 })).projects.map(({ name }) => name);
  expect(names).toEqual(expect.arrayContaining(["ada", "bob", "team"]));
  expect(await refusalOf(bob.projects.listProjects({ all: true }))).toBe("PERMISSION_DENIED all: this is for administrators");
  expect((await root.projects.getProject({ project: "team" })).project?.role).toBe(ProjectRole.PROJECT_ROLE_UNSPECIFIED);
});
