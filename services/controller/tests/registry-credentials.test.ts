// Credentials for registries: used for their project's VMs alone, sealed in the database, said to nobody. The registry is a real one.
import { readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { randomBytes, randomUUID } from "node:crypto";
import type { SetRegistryCredentialRequest } from "@pitwall/proto/pitwall/v1/project.ts";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { startControllers, type Calls, type TestControllers } from "./support/controllers.ts";
import { startNode, type TestNode } from "./support/node.ts";
import { refusalOf } from "./support/refusals.ts";
import { password, startPrivateRegistry, username, type PrivateRegistry } from "./support/private-registry.ts";

let registry: PrivateRegistry;
let pitwall: TestControllers;
let nodes: TestNode[];
let ada: Calls;
let bob: Calls;

beforeAll(async () => {
  registry = await startPrivateRegistry();
  pitwall = await startControllers(1, { PITWALL_INSECURE_REGISTRIES: registry.host });
  nodes = [await startNode(pitwall, { name: "one" })];
  [ada, bob] = [await pitwall.as("ada"), await pitwall.as("bob")];
  await ada.projects.createProject({ name: "team" });
  await bob.projects.getProject({});
});
afterAll(async () => {
  for (const node of nodes ?? []) await node[Symbol.asyncDispose]();
  await pitwall?.[Symbol.asyncDispose]();
  await registry?.[Symbol.asyncDispose]();
});

const set = (by: Calls, more: Partial<SetRegistryCredentialRequest> = {}) =>
  by.projects.setRegistryCredential({
    project: "team",
    registry: registry.host,
    username,
    secret: { $case: "password", value: password },
    ...more,
  });

describe("a project's credential for a registry", () => {
  it("lets its VMs be made of private images, and no other project's", async () => {
    const create = (by: Calls, project: string): Promise<string> =>
      refusalOf(by.vms.createVm({ project, name: `of-${project}`, spec: { image: registry.image } }));
    const refused = /^PERMISSION_DENIED .*registry/;
    expect(await create(ada, "team")).toMatch(refused);
    const { credential } = await set(ada);
    expect(credential).toMatchObject({ registry: registry.host, username });
    expect(await create(ada, "team")).toBe("OK");
    expect(await create(ada, "ada")).toMatch(refused); // of the same person, in another project
    expect(await create(bob, "bob")).toMatch(refused);
    expect(await refusalOf(ada.images.resolveImage({ image: registry.image, project: "team" }))).toBe("OK");
    expect(await refusalOf(ada.images.resolveImage({ image: registry.image }))).toMatch(refused);
    expect(await refusalOf(ada.images.checkImage({ image: registry.image, project: "team" }))).toBe("OK");
    expect(await refusalOf(bob.images.resolveImage({ image: registry.image, project: "team" }))).toMatch(/^NOT_FOUND there is no project/);
  });

  it("goes with the assignment to the node of the VM, for the image's registry only", async () => {
    const told = await nodes[0]?.isTold(({ vmName }) => vmName === "of-team");
    expect(told?.imageCredential).toEqual({ registry: registry.host, username, secret: { $case: "password", value: password } });
    await ada.vms.createVm({ project: "team", name: "public", spec: { image: pitwall.image } });
    expect((await nodes[0]?.isTold(({ vmName }) => vmName === "public"))?.imageCredential).toBeUndefined();
  });

  it("is nowhere in the database as it is, nor in any answer", async () => {
    const tables = await pitwall.query("select table_name from information_schema.tables where table_schema = 'public'");
    expect(tables.length).toBeGreaterThan(10);
    const forms = [password, Buffer.from(password).toString("hex"), Buffer.from(password).toString("base64")];
    for (const { table_name: table } of tables) {
      const rows = await pitwall.query(
        `select 1 from "${String(table)}" as entry where entry::text like any (select '%' || unnest($1::text[]) || '%')`,
        [forms],
      );
      expect([table, rows.length]).toEqual([table, 0]);
    }
    const answers = [await ada.projects.listRegistryCredentials({ project: "team" }), await ada.vms.listVms({ project: "team" })];
    expect(JSON.stringify(answers, (_, value: unknown) => (typeof value === "bigint" ? String(value) : value))).not.toContain(password);
  });

  it("of one row is of no use in another", async () => {
    await pitwall.query(
      `insert into registry_credential select (select id from project where name = 'bob'), registry, username, key_id, box, create_time,
      update_time from registry_credential where registry = $1`,
      [registry.host],
    );
    const moved = bob.vms.createVm({ name: "thief", spec: { image: registry.image } });
    expect(await refusalOf(moved)).toBe("DATA_LOSS a stored secret was changed, or moved to another place");
    await pitwall.query("delete from registry_credential where project_id = (select id from project where name = 'bob')");
  });

  it("is set, replaced and deleted by owners, with a request id once", async () => {
    expect(await refusalOf(set(bob))).toMatch(/^NOT_FOUND/);
    await ada.projects.setProjectMember({ project: "team", subject: "bob", role: 2 });
    expect(await refusalOf(set(bob))).toMatch(/^PERMISSION_DENIED/);
    const requestId = randomUUID();
    const first = await set(ada, { requestId });
    expect(await set(ada, { requestId })).toEqual(first);
    const other = set(ada, { requestId, secret: { $case: "password", value: "another" } });
    expect(await refusalOf(other)).toContain("request_id: was used for another request");
    await set(ada, { registry: "ghcr.io", username: "", secret: { $case: "identityToken", value: "t" } });
    const listed = (await ada.projects.listRegistryCredentials({ project: "team" })).credentials;
    expect(listed.map((one) => [one.registry, one.username])).toEqual([
      [registry.host, username],
      ["ghcr.io", ""],
    ]);
    await ada.projects.deleteRegistryCredential({ project: "team", registry: "ghcr.io" });
    expect(await refusalOf(ada.projects.deleteRegistryCredential({ project: "team", registry: "ghcr.io" }))).toMatch(
      /^NOT_FOUND the project team/,
    );
  });

  it.each<[string, Partial<SetRegistryCredentialRequest>]>([
    ["registry: must be the HOST", { registry: "https://ghcr.io" }],
    ["secret: a password", { secret: undefined }],
    ["secret: a password", { secret: { $case: "password", value: "" } }],
    ["password: must be at most", { secret: { $case: "password", value: "a\nb" } }],
    ["username: must hold no colon", { username: "a:b" }],
    ["username: is required", { username: "" }],
    ["username: must be empty", { secret: { $case: "identityToken", value: "x" } }],
  ])("is refused: %s", async (message, more) => {
    expect(await refusalOf(set(ada, more))).toContain(`INVALID_ARGUMENT ${message}`);
  });
});

describe("the key file", () => {
  it("is made beside the CA, for its owner's eyes only", async () => {
    expect((await stat(join(pitwall.dir, "controller-0", "ca", "secrets.key"))).mode & 0o777).toBe(0o600);
  });

  it("with a new key first has all sealed anew, and then the old key can go", async () => {
    const old = await readFile(join(pitwall.dir, "controller-0", "ca", "secrets.key"), "utf8");
    const fresh = `${randomBytes(32).toString("base64")}\n`;
    const withKeys = async (name: string, keys: string): Promise<number> => {
      const path = join(pitwall.dir, name);
      await writeFile(path, keys);
      return pitwall.add({ PITWALL_SECRETS_KEY_FILE: path });
    };
    const resolveAt = async (controller: number): Promise<string> =>
      refusalOf((await pitwall.as("ada", controller)).images.resolveImage({ image: registry.image, project: "team" }));
    const before = await pitwall.query("select distinct key_id from registry_credential");
    const both = await withKeys("both", fresh + old);
    const after = await pitwall.query("select distinct key_id from registry_credential");
    expect(after).toHaveLength(1);
    expect(after).not.toEqual(before);
    expect(await resolveAt(both)).toBe("OK");
    expect(await resolveAt(await withKeys("fresh", fresh))).toBe("OK");
    // A controller without the key runs, and says which one it lacks.
    expect(await resolveAt(0)).toBe(
      `UNAVAILABLE a stored secret takes the key ${String(after[0]?.["key_id"])}, which is not in the controller's key file`,
    );
    await expect(withKeys("another", `${randomBytes(32).toString("base64")}\n`)).rejects.toMatchObject({
      fault: "state",
      reason: "SECRETS_KEY_DIFFERS",
      message: `the credentials in this database are sealed with the key ${String(after[0]?.["key_id"])}, which is not in this controller's key file: give it the secrets.key of the other controllers`,
    });
    await expect(withKeys("old", old)).rejects.toMatchObject({ reason: "SECRETS_KEY_DIFFERS" });
    await expect(withKeys("short", "c2hvcnQ=\n")).rejects.toThrow("PITWALL_SECRETS_KEY_FILE: the file must hold keys of 32 bytes");
  });
});
