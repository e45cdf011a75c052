// What is kept as a time is the database's: a controller whose clock is wrong writes none of its own.
import { randomUUID } from "node:crypto";
import { Phase } from "@pitwall/proto/pitwall/v1/vm.ts";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { startControllers, type Calls, type TestControllers } from "./support/controllers.ts";
import { startNode, type TestNode } from "./support/node.ts";

const hourMs = 60 * 60_000;
let pitwall: TestControllers;
let node: TestNode;
let ada: Calls;

beforeAll(async () => {
  pitwall = await startControllers(1);
  node = await startNode(pitwall, { name: "one" });
  // Controllers, clients and the issuer's tokens are an hour ahead of the database from here on.
  vi.useFakeTimers({ toFake: ["Date"], now: Date.now() + hourMs });
  ada = await pitwall.as("ada");
});
afterAll(async () => {
  vi.useRealTimers();
  await node?.[Symbol.asyncDispose]();
  await pitwall?.[Symbol.asyncDispose]();
});

/** All times of it that are not set to come, as tables have them. */
async function offMs(table: string): Promise<number[]> {
  const columns = await pitwall.query(
    "select column_name as name from information_schema.columns where table_name = $1 and column_name in ('create_time', 'update_time')",
    [table],
  );
  const rows = await pitwall.query(
    columns.map(({ name }) => `select abs(extract(epoch from now() - ${String(name)})) * 1000 as off from ${table}`).join(" union all "),
  );
  return rows.map(({ off }) => Number(off));
}

test("a controller that is an hour ahead writes no time of its own", async () => {
  const spec = { image: pitwall.image };
  await ada.projects.createProject({ name: "clocks", requestId: randomUUID() });
  await ada.projects.setProjectMember({ project: "clocks", subject: "bob", role: 2 });
  await ada.projects.createApiToken({ project: "clocks", role: 1 });
  await ada.projects.setRegistryCredential({
    project: "clocks",
    registry: "registry.example",
    username: "u",
    secret: { $case: "password", value: "p" },
  });
  const key = `ssh-ed25519 ${Buffer.concat([Buffer.from("0000000b7373682d6564323535313900000020", "hex"), Buffer.alloc(32, 7)]).toString("base64")}`;
  await ada.profile.addSshKey({ publicKey: key });
  await ada.vms.createVm({ name: "together", spec });
  await ada.vms.createVm({ name: "alone", spec, ttl: { seconds: 3_600n, nanos: 0 } });
  await ada.vms.waitVm({ vm: "together", phases: [Phase.PHASE_RUNNING] });
  await ada.vms.renameVm({ vm: "alone", name: "renamed" });
  await ada.vms.stopVm({ vm: "renamed" });
  for (const table of ["project", "project_member", "api_token", "registry_credential", "ssh_key", "vm", "node", "member"]) {
    const off = await offMs(table);
    expect(off.length, table).toBeGreaterThan(0);
    expect(Math.max(...off), table).toBeLessThan(hourMs / 2);
  }
});
