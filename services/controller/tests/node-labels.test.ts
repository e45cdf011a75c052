// Whose word counts of a node's labels: its join token's, if that has any; else its own.
import { JoinRole } from "@pitwall/proto/pitwall/v1/node.ts";
import { afterAll, beforeAll, expect, it } from "vitest";
import { startInstallation, type Controller, type Installation } from "./support/installation.ts";
import { joinNode } from "./support/spoken-node.ts";

let installation: Installation;
let controller: Controller;

beforeAll(async () => {
  installation = await startInstallation();
  controller = await installation.startController();
}, 60_000);
afterAll(async () => {
  await controller?.[Symbol.asyncDispose]();
  await installation?.[Symbol.asyncDispose]();
});

const labelsOf = async (node: string): Promise<unknown> => (await controller.admin.nodes.getNode({ node })).node?.labels;

it("a node has the labels that it says, those of its newest hello", async () => {
  const node = await joinNode(installation, controller.admin, "free");
  for (const labels of [{ zone: "a", disk: "ssd" }, { zone: "b" }]) {
    await using _ = await node.link(controller.link, [], { labels });
    expect(await labelsOf("free")).toEqual(labels);
  }
});

it("a node whose join token has labels has exactly those, before its first hello and whatever it says", async () => {
  const node = await joinNode(installation, controller.admin, "bound", { zone: "a" });
  expect(await labelsOf("bound")).toEqual({ zone: "a" });
  for (const labels of [{ zone: "vault", trusted: "yes" }, {}]) {
    await using _ = await node.link(controller.link, [], { labels });
    expect(await labelsOf("bound")).toEqual({ zone: "a" });
  }
  const rows = await installation.query("select detail from audit_entry where object = $1 and action = 'EnrollService/Join'", [
    `node/${node.id}`,
  ]);
  expect(rows).toEqual([{ detail: { name: "bound", labels: { zone: "a" } } }]);
});

it("a host that joins again has what its newest token gives it", async () => {
  const before = await joinNode(installation, controller.admin, "again", { zone: "a" });
  await installation.query("update member set certificate_expire_time = now() - interval '1 day' where id = $1", [before.id]);
  const node = await joinNode({ dir: `${installation.dir}/again` }, controller.admin, "again");
  expect(node.id).toBe(before.id);
  await using _ = await node.link(controller.link, [], { labels: { zone: "c" } });
  expect(await labelsOf("again")).toEqual({ zone: "c" });
});

it("labels that nothing can name are refused by their field, in a hello and for a token", async () => {
  const node = await joinNode(installation, controller.admin, "wrong");
  const many = Object.fromEntries(Array.from({ length: 65 }, (_, index) => [`k${index}`, ""]));
  await expect(node.link(controller.link, [], { labels: { zone: "a\0" } })).rejects.toThrow("INVALID_ARGUMENT: labels: the value of zone");
  await expect(node.link(controller.link, [], { labels: many })).rejects.toThrow("INVALID_ARGUMENT: labels: holds 65 labels");
  const token = (role: JoinRole, labels: Record<string, string>): Promise<unknown> =>
    controller.admin.nodes.createJoinToken({ role, name: "", labels });
  await expect(token(JoinRole.JOIN_ROLE_NODE, { "": "a" })).rejects.toThrow("INVALID_ARGUMENT: labels: a label's key is");
  await expect(token(JoinRole.JOIN_ROLE_GATEWAY, { zone: "a" })).rejects.toThrow("INVALID_ARGUMENT: labels: are of nodes");
});
