// API tokens over the wire, on a real database: what they may, how they end, and where they are never seen.
import { randomUUID } from "node:crypto";
import { ProjectRole, type CreateApiTokenRequest } from "@pitwall/proto/pitwall/v1/project.ts";
import { Phase } from "@pitwall/proto/pitwall/v1/vm.ts";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { startControllers, type Calls, type TestControllers } from "./support/controllers.ts";
import { startNode, type TestNode } from "./support/node.ts";
import { refusalOf } from "./support/refusals.ts";

const { PROJECT_ROLE_MEMBER: member, PROJECT_ROLE_OWNER: owner, PROJECT_ROLE_VIEWER: viewer } = ProjectRole;

let pitwall: TestControllers;
let node: TestNode;
let ada: Calls;
let bob: Calls;

beforeAll(async () => {
  pitwall = await startControllers(2);
  node = await startNode(pitwall, { name: "one" });
  [ada, bob] = [await pitwall.as("ada"), await pitwall.as("bob")];
  await bob.projects.getProject({});
  await ada.projects.createProject({ name: "team" });
  await ada.vms.createVm({ project: "team", name: "web", spec: { image: pitwall.image } });
  await ada.vms.createVm({ name: "mine", spec: { image: pitwall.image } });
});
afterAll(async () => {
  await node?.[Symbol.asyncDispose]();
  await pitwall?.[Symbol.asyncDispose]();
});

async function made(by: Calls, wanted: Partial<CreateApiTokenRequest> = {}): Promise<{ id: string; secret: string; calls: Calls }> {
  const { token, secret } = await by.projects.createApiToken({ project: "team", ...wanted });
  return { id: token?.id ?? "", secret, calls: pitwall.withHeader(`Bearer ${secret}`) };
}

describe("an API token", () => {
  it("acts in its project, in its role, on behalf of its maker", async () => {
    const { id, secret, calls } = await made(ada, { role: member });
    expect(secret).toMatch(new RegExp(`^pwt_${id}_[A-Za-z0-9_-]{43}$`));
    expect(await calls.profile.getProfile({})).toMatchObject({ subject: "ada", tokenId: id, isAdmin: false });
    expect((await calls.projects.listProjects({})).projects.map(({ name, role }) => [name, role])).toEqual([["team", member]]);
    expect((await calls.vms.getVm({ vm: "web" })).vm?.name).toBe("web"); // the empty project is the token's
    expect(await refusalOf(calls.vms.getVm({ vm: "ada/mine" }))).toMatch(/^NOT_FOUND/);
    expect(await refusalOf(calls.projects.getProject({ project: "ada" }))).toMatch(/^NOT_FOUND/);
    await calls.vms.createVm({ name: "by-token", spec: { image: pitwall.image } });
    const [entry] = await pitwall.query("select actor, subject from audit_entry where detail->>'name' = 'by-token'");
    expect(entry).toEqual({ actor: `token:${id}`, subject: "ada" });
  });

  it("of a viewer changes nothing, and one for some methods calls no other", async () => {
    const { calls } = await made(ada);
    expect(await refusalOf(calls.vms.stopVm({ vm: "web" }))).toBe(
      "PERMISSION_DENIED the role of this API token is viewer; this needs member",
    );
    const narrow = await made(ada, { role: member, methods: ["VmService/GetVm"] });
    expect(await refusalOf(narrow.calls.vms.getVm({ vm: "web" }))).toBe("OK");
    expect(await refusalOf(narrow.calls.vms.stopVm({ vm: "web" }))).toBe("PERMISSION_DENIED this API token is not for VmService/StopVm");
  });

  it("makes nothing that outlives it", async () => {
    const { calls } = await made(ada, { role: owner });
    const refused = "PERMISSION_DENIED this is for people who sign in, not for API tokens";
    expect(await refusalOf(calls.projects.createApiToken({ project: "team" }))).toBe(refused);
    expect(await refusalOf(calls.projects.setProjectMember({ project: "team", subject: "eve", role: owner }))).toBe(refused);
    expect(await refusalOf(calls.projects.createProject({ name: "more" }))).toBe(refused);
    expect(await refusalOf(calls.profile.listSshKeys({}))).toBe(refused);
  });

  it("has at most its maker's role, and a life of at most a year", async () => {
    await ada.projects.setProjectMember({ project: "team", subject: "bob", role: viewer });
    expect(await refusalOf(bob.projects.createApiToken({ project: "team", role: member }))).toMatch(/^PERMISSION_DENIED role: your role/);
    expect(await refusalOf(ada.projects.createApiToken({ ttl: { seconds: 366n * 86_400n } }))).toBe(
      "INVALID_ARGUMENT ttl: must be at most 365 days",
    );
    expect(await refusalOf(ada.projects.createApiToken({ ttl: { seconds: -1n } }))).toMatch(/^INVALID_ARGUMENT ttl/);
    expect(await refusalOf(ada.projects.createApiToken({ methods: ["VmService/Nothing"] }))).toMatch(
      /^INVALID_ARGUMENT methods\[0\]: "VmService\/Nothing"/,
    );
    expect(await refusalOf(ada.projects.createApiToken({ methods: ["NodeService/DrainNode"] }))).toMatch(/^INVALID_ARGUMENT methods\[0\]/);
  });

  it("weakens with its maker's role and ends with their membership", async () => {
    await ada.projects.setProjectMember({ project: "team", subject: "bob", role: member });
    const { calls } = await made(bob, { role: member });
    expect(await refusalOf(calls.vms.startVm({ vm: "web" }))).toBe("OK");
    await ada.projects.setProjectMember({ project: "team", subject: "bob", role: viewer });
    expect(await refusalOf(calls.vms.startVm({ vm: "web" }))).toBe(
      "PERMISSION_DENIED your role for the VM web is viewer; this needs member",
    );
    await ada.projects.removeProjectMember({ project: "team", subject: "bob" });
    expect(await refusalOf(calls.vms.getVm({ vm: "web" }))).toMatch(/^UNAUTHENTICATED/);
    expect((await ada.projects.listApiTokens({ project: "team", pageSize: 1000 })).tokens.map(({ createdBy }) => createdBy)).not.toContain(
      "bob",
    );
  });

  it("that is wrong, unknown or revoked is refused in the same words", async () => {
    const { id, secret, calls } = await made(ada);
    const words = "UNAUTHENTICATED the API token is not known here, was revoked, or its maker has left the project";
    const other = secret.endsWith("A") ? "B" : "A";
    for (const text of [secret.slice(0, -1) + other, `pwt_${"0".repeat(16)}_${"a".repeat(43)}`, `${secret}x`, "pwt_", `pwt_${id}_`])
      expect(await refusalOf(pitwall.withHeader(`Bearer ${text}`).vms.listVms({}))).toBe(words);
    await ada.projects.revokeApiToken({ project: "team", id });
    expect(await refusalOf(calls.vms.listVms({}))).toBe(words);
    expect(await refusalOf(ada.projects.revokeApiToken({ project: "team", id }))).toMatch(/^NOT_FOUND the project team has no API token/);
  });

  it("that has expired says so, to whoever has its secret", async () => {
    const { id, calls } = await made(ada);
    await pitwall.query("update api_token set expire_time = now() - interval '1 second' where id = $1", [id]);
    expect(await refusalOf(calls.vms.listVms({}))).toBe("UNAUTHENTICATED the API token has expired: make another");
  });

  it("is revoked by its maker and by owners, and by nobody else", async () => {
    await ada.projects.setProjectMember({ project: "team", subject: "bob", role: member });
    const [mine, theirs] = [await made(ada), await made(bob)];
    expect(await refusalOf(bob.projects.revokeApiToken({ project: "team", id: mine.id }))).toMatch(
      /^PERMISSION_DENIED the API token \S+ is not yours/,
    );
    expect(await refusalOf(bob.projects.revokeApiToken({ project: "team", id: theirs.id }))).toBe("OK");
    const again = await made(bob);
    expect(await refusalOf(ada.projects.revokeApiToken({ project: "team", id: again.id }))).toBe("OK");
  });

  it("ends its open streams and waits within seconds of being revoked, on every controller", async () => {
    const { id, secret } = await made(ada);
    const elsewhere = pitwall.withHeader(`Bearer ${secret}`, 1);
    let isSynced = (): void => undefined;
    const synced = new Promise<void>((resolve) => (isSynced = resolve));
    const watching = (async () => {
      for await (const { synced: done } of elsewhere.vms.watchVms({})) if (done) isSynced();
    })();
    const waiting = elsewhere.vms.waitVm({ vm: "web", phases: [Phase.PHASE_STOPPING] });
    const ended = Promise.all([refusalOf(watching), refusalOf(waiting)]);
    await synced;
    const revoked = performance.now();
    await ada.projects.revokeApiToken({ project: "team", id });
    expect(await ended).toEqual(Array(2).fill("UNAUTHENTICATED the API token is no longer valid"));
    expect(performance.now() - revoked).toBeLessThan(5_000);
  });

  it("is shown once: neither a repeat, nor a list, nor a row has its secret", async () => {
    const request = { project: "team", requestId: randomUUID() };
    const { token, secret } = await ada.projects.createApiToken(request);
    expect(await ada.projects.createApiToken(request)).toMatchObject({ token: { id: token?.id }, secret: "" });
    const tail = secret.slice(-43);
    expect(JSON.stringify(await ada.projects.listApiTokens({ project: "team", pageSize: 1000 }), plainly)).not.toContain(tail);
    expect(await rowsWith(tail)).toEqual([]);
    expect(await rowsWith(Buffer.from(tail).toString("hex"))).toEqual([]);
  });

  it("remembers to the minute when it was used, without a write for each use", async () => {
    const { id, calls } = await made(ada);
    const lastUsed = async (): Promise<Date | undefined> =>
      (await ada.projects.listApiTokens({ project: "team", pageSize: 1000 })).tokens.find((one) => one.id === id)?.lastUsedTime;
    expect(await lastUsed()).toBeUndefined();
    await calls.vms.listVms({});
    const first = await lastUsed();
    await calls.vms.listVms({});
    expect([first, await lastUsed()]).toEqual([expect.any(Date), first]);
  });
});

const plainly = (_: string, value: unknown): unknown => (typeof value === "bigint" ? String(value) : value);

/** The tables of which a row, as text, holds this. */
async function rowsWith(text: string): Promise<unknown[]> {
  const tables = await pitwall.query("select table_name from information_schema.tables where table_schema = 'public'");
  const found: unknown[] = [];
  for (const { table_name: table } of tables) {
    const rows = await pitwall.query(`select 1 from "${String(table)}" as entry where entry::text like '%' || $1 || '%' limit 1`, [text]);
    if (rows.length > 0) found.push(table);
  }
  return found;
}

describe("rates", () => {
  it("are of each principal, and say when to try again", async () => {
    await using slow = await startControllers(1, { PITWALL_READS_PER_SECOND: "0.1", PITWALL_CHANGES_PER_SECOND: "0" });
    const [one, two] = [await slow.as("ada"), await slow.as("bob")];
    expect(await refusalOf(one.vms.listVms({}))).toBe("OK");
    expect(await refusalOf(one.vms.listVms({}))).toBe(
      "RESOURCE_EXHAUSTED too many reads: at most 0.1 a second, after 1 at once; try again",
    );
    expect(await refusalOf(two.vms.listVms({}))).toBe("OK");
    expect(await refusalOf(one.projects.createProject({ name: "unlimited" }))).toBe("OK");
  });
});
