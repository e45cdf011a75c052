// VMs that are asked for at the same time, and what nodes say at the same time, are changes of several at once: each is as if it were alone.
import { randomUUID } from "node:crypto";
import { Phase } from "@pitwall/proto/pitwall/v1/vm.ts";
import { ClientError } from "nice-grpc";
import { afterAll, beforeAll, expect, test } from "vitest";
import { eventually, startInstallation, type Controller, type Installation } from "./support/installation.ts";
import { joinNode, obey, reportOf, type SpokenLink } from "./support/spoken-node.ts";

const rooms = 3;

let installation: Installation;
let controllers: Controller[];
let links: SpokenLink[];

beforeAll(async () => {
  installation = await startInstallation();
  const unlimited = { PITWALL_CHANGES_PER_SECOND: "0", PITWALL_READS_PER_SECOND: "0" };
  controllers = [await installation.startController(unlimited), await installation.startController(unlimited)];
  const [first, second] = controllers;
  if (!first || !second) throw new Error("two controllers");
  const nodes = [await joinNode(installation, first.admin, "one"), await joinNode(installation, first.admin, "two")];
  links = await Promise.all(nodes.map((node, n) => node.link(n === 0 ? first.link : second.link)));
  await installation.query(
    `with made as (insert into project (id, name, quota_vms, quota_cpu_millis, quota_mem_bytes, quota_disk_bytes, quota_addresses, create_time)
       select gen_random_uuid(), concat('p-', n), case n when 0 then $1::int else 1000 end, 1e15, 1e18, 1e18, 1000, now() from generate_series(0, 4) as n
       returning id)
     insert into project_member (project_id, subject, role, create_time) select id, 'dev', 'owner', now() from made`,
    [rooms],
  );
}, 60_000);

afterAll(async () => {
  await Promise.all(links?.map((link) => link[Symbol.asyncDispose]()) ?? []);
  await Promise.all(controllers?.map((controller) => controller[Symbol.asyncDispose]()) ?? []);
  await installation?.[Symbol.asyncDispose]();
});

interface Wish {
  readonly project: string;
  readonly name: string;
  readonly requestId: string;
}

/** The VM's id, or why not. */
async function ask({ project, name, requestId }: Wish, at: Controller | undefined): Promise<string> {
  const spec = { image: installation.image, cpuMillis: 100, memBytes: 128n << 20n, diskBytes: 64n << 20n };
  try {
    return (await at?.admin.vms.createVm({ project, name, requestId, spec }))?.vm?.id ?? "";
  } catch (error) {
    if (error instanceof ClientError) return error.details;
    throw error;
  }
}

test("each has its own answer, entry and event; what one is refused for, the others are not", { timeout: 120_000 }, async () => {
  void Promise.all(links.map((link) => obey(link, 500)));
  const wish = (project: string, name: string): Wish => ({ project, name, requestId: randomUUID() });
  const good = Array.from({ length: 60 }, (_, n) => wish(`p-${1 + (n % 4)}`, `vm-${n}`));
  const tooMany = Array.from({ length: rooms + 4 }, (_, n) => wish("p-0", `many-${n}`));
  const twins = [wish("p-1", "twin"), wish("p-1", "twin"), wish("p-1", "twin")];
  const nowhere = [wish("p-9", "nowhere")];
  const all = [...good, ...tooMany, ...twins, ...nowhere];
  // Each at both controllers, as a client that lost its first answer does.
  const answers = await Promise.all(all.map(async (one) => Promise.all(controllers.map((controller) => ask(one, controller)))));
  const of = (wishes: readonly Wish[]): string[][] => wishes.map((one) => answers[all.indexOf(one)] ?? []);

  const isId = (answer: string): boolean => /^[0-9a-f-]{36}$/.test(answer);
  for (const [here = "", there] of of(good)) expect([isId(here), there]).toEqual([true, here]);
  expect(new Set(of(good).flat()).size).toBe(good.length);
  const made = of(tooMany).filter(([here = "", there = ""]) => isId(here) && isId(there));
  expect(made.length).toBe(rooms);
  for (const [here, there] of made) expect(there).toBe(here);
  for (const answer of of(tooMany).flat()) if (!isId(answer)) expect(answer).toMatch(/quota of the project p-0/);
  expect(new Set(of(twins).flat().filter(isId)).size).toBe(1);
  for (const answer of of(twins).flat()) if (!isId(answer)) expect(answer).toMatch(/has a VM called twin/);
  for (const answer of of(nowhere).flat()) expect(answer).toMatch(/no project "p-9"/);

  const ids = [...new Set(answers.flat().filter(isId))];
  const [rows] = await installation.query(
    `select (select count(*)::int from vm) as vms, (select count(*)::int from request) as requests,
       (select count(*)::int from audit_entry where action like '%/CreateVm' and object = any($1)) as entries,
       (select count(distinct vm_id)::int from vm_event where tell_node) as told,
       (select sum(vms)::int from project_usage) as used, (select sum(vm_count)::int from node_allocation) as placed`,
    [ids.map((id) => `vm/${id}`)],
  );
  expect(rows).toEqual({
    vms: ids.length,
    requests: ids.length,
    entries: ids.length,
    told: ids.length,
    used: ids.length,
    placed: ids.length,
  });
  await eventually(async () => {
    const [left] = await installation.query("select count(*)::int as n from vm where phase <> $1", [Phase.PHASE_RUNNING]);
    return left?.["n"] === 0 || undefined;
  });
  const [revisions] = await installation.query("select count(distinct revision)::int as n from vm");
  expect(revisions?.["n"]).toBe(ids.length);
});

test("among what nodes say at once, a claim to another's VM, and a VM that is gone, are what they are; the rest is taken", async () => {
  const [one, two] = links;
  const own = one?.assignments[0];
  const others = two?.assignments ?? [];
  if (!one || !two || !own) throw new Error("VMs were made on both nodes");
  const failed = others.slice(0, 5);
  for (const assignment of failed) {
    two.say({ $case: "report", value: { ...reportOf(assignment, Phase.PHASE_STOPPING), reason: "PASSING" } });
    two.say({ $case: "report", value: { ...reportOf(own), epoch: own.epoch + 1n } });
    two.say({ $case: "report", value: { ...reportOf(assignment, Phase.PHASE_FAILED), reason: "SAID_LAST" } });
    one.say({ $case: "report", value: reportOf(assignment) });
  }
  await eventually(async () => {
    const [row] = await installation.query("select count(*)::int as n from vm where reason = 'SAID_LAST' and phase = $1", [
      Phase.PHASE_FAILED,
    ]);
    return row?.["n"] === failed.length || undefined;
  });
  const [row] = await installation.query("select phase from vm where id = $1", [own.vmId]);
  expect(row?.["phase"]).toBe(Phase.PHASE_RUNNING);
  const refused = await eventually(async () => {
    const found = await installation.query("select actor from audit_entry where action = 'ReportRefused'");
    return found.length > 1 ? found : undefined;
  });
  expect(refused.length).toBe(2); // one of each session
  expect([one.isOver, two.isOver]).toEqual([false, false]);
});
