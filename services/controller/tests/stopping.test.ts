// A controller is told to stop while it has calls to answer: each is answered, or UNAVAILABLE.
import { randomUUID } from "node:crypto";
import { Desired, Phase } from "@pitwall/proto/pitwall/v1/vm.ts";
import { ClientError, Status } from "nice-grpc";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { eventually, startInstallation, type Controller, type Installation } from "./support/installation.ts";
import { joinNode, keepLinked } from "./support/spoken-node.ts";

const creates = 100;
const deletions = 25;
const answeredBefore = 20;
const stuckCalls = 40;
/** In one controller. */
const changesAtOnce = 14;
/** For calls and links to end, 3 s each, and a machine that is busy. */
const stopLimitMs = 25_000;
const unlimited = { PITWALL_CHANGES_PER_SECOND: "100000", PITWALL_READS_PER_SECOND: "100000" };

/** Nobody else listens at this address, so that the controller can come back at its own. */
const host = `127.${1 + Math.floor(Math.random() * 253)}.${Math.floor(Math.random() * 255)}.1`;
const addresses = { PITWALL_LISTEN: `${host}:7000`, PITWALL_LINK_LISTEN: `${host}:7001` };

vi.setConfig({ testTimeout: 180_000 });

const cleanUp = new AsyncDisposableStack();
let installation: Installation;
let controller: Controller;

beforeAll(async () => {
  installation = cleanUp.use(await startInstallation());
  controller = await installation.startController({ ...unlimited, ...addresses });
  const node = await joinNode(installation, controller.admin, "node");
  cleanUp.use(keepLinked(node, [controller.link], 200));
  await eventually(async () => (await controller.admin.nodes.listNodes({})).nodes.some(({ state }) => state === 1) || undefined);
  await installation.query(
    "update project set quota_vms = 10000, quota_cpu_millis = 1000000000, quota_mem_bytes = 1::bigint << 50, quota_disk_bytes = 1::bigint << 55, quota_addresses = 10000",
  );
}, 120_000);

afterAll(async () => {
  await controller?.[Symbol.asyncDispose]();
  await cleanUp.disposeAsync();
});

const createOf = (name: string): { requestId: string; name: string; spec: object } => ({
  requestId: randomUUID(),
  name,
  spec: { image: installation.image, cpuMillis: 100, memBytes: 128n << 20n, diskBytes: 64n << 20n },
});

/** What became of a call that is not made again: a VM's id, or why there is none. */
async function outcome(call: Promise<{ vm?: { id: string } | undefined }>): Promise<string | Status> {
  try {
    return (await call).vm?.id ?? "";
  } catch (error) {
    if (error instanceof ClientError) return error.code;
    throw error;
  }
}

const taken = (outcomes: readonly (string | Status)[]): string[] => outcomes.filter((one) => typeof one === "string");

test("calls that a controller has when it is told to stop are answered, or UNAVAILABLE; made again, all are there once", async () => {
  const { vms } = controller.admin;
  const doomed = await Promise.all(
    Array.from({ length: deletions }, async (_, n) => (await vms.createVm(createOf(`doomed-${n}`))).vm?.id ?? ""),
  );
  const { vm: waited } = await vms.createVm(createOf("waited"));
  const waiting = outcome(vms.waitVm({ vm: waited?.id ?? "", phases: [Phase.PHASE_SUSPENDED] }));
  const [watchEnded, watchSynced] = [Promise.withResolvers<unknown>(), Promise.withResolvers<void>()];
  void (async () => {
    try {
      for await (const { synced } of vms.watchVms({})) if (synced) watchSynced.resolve();
      watchEnded.resolve("well");
    } catch (error) {
      watchEnded.resolve(error instanceof ClientError ? error.code : error);
    }
  })();
  await watchSynced.promise;

  const requests = Array.from({ length: creates }, (_, n) => createOf(`vm-${n}`));
  const removals = doomed.map((vm) => ({ vm, requestId: randomUUID() }));
  let answered = 0;
  let stoppedMs = 0;
  const counted = async (call: Promise<{ vm?: { id: string } | undefined }>): Promise<string | Status> => {
    const result = await outcome(call);
    if (++answered === answeredBefore) {
      stoppedMs = performance.now();
      controller.signal("SIGTERM");
    }
    return result;
  };
  const [made, removed] = await Promise.all([
    Promise.all(requests.map((request) => counted(vms.createVm(request)))),
    Promise.all(removals.map((removal) => counted(vms.deleteVm(removal)))),
  ]);
  expect(await controller.ended).toEqual([0, null]);
  expect(await installation.query("select from controller")).toEqual([]); // nobody is sent there
  const tookMs = performance.now() - stoppedMs;
  const rows = await installation.query("select id, name, desired from vm");
  console.log(
    `${taken(made).length} of ${creates} creates and ${taken(removed).length} of ${deletions} deletions answered; stopped in ${Math.round(tookMs)} ms`,
  );
  expect([...made, ...removed].filter((one) => typeof one !== "string" && one !== Status.UNAVAILABLE)).toEqual([]);
  expect(rows.map(({ id }) => id)).toEqual(expect.arrayContaining(taken(made)));
  const leaving = new Set(rows.filter(({ desired }) => desired === Desired.DESIRED_DELETED).map(({ id }) => id));
  const there = new Set(rows.map(({ id }) => id));
  expect(taken(removed).filter((id) => there.has(id) && !leaving.has(id))).toEqual([]);
  expect(await waiting).toBe(Status.UNAVAILABLE);
  expect(await watchEnded.promise).toBe("well");
  expect(tookMs).toBeLessThan(stopLimitMs);

  await controllerIsBack();
  await allAreThereOnce(requests, made);
});

test("calls that cannot be answered before it stops are UNAVAILABLE, whatever becomes of them; made again, all are there once", async () => {
  // With a time to live each is made alone, and so all that may run at once are stuck.
  const requests = Array.from({ length: stuckCalls }, (_, n) => ({ ...createOf(`stuck-${n}`), ttl: { seconds: 3_600, nanos: 0 } }));
  let outcomes: readonly (string | Status)[] = [];
  await installation.holding("lock table vm in share mode", [], async () => {
    const asking = Promise.all(requests.map((request) => outcome(controller.admin.vms.createVm(request))));
    const waits = "select from pg_stat_activity where wait_event_type = 'Lock'";
    await eventually(async () => (await installation.query(waits)).length >= changesAtOnce || undefined);
    controller.signal("SIGTERM");
    outcomes = await asking;
  });
  expect(new Set(outcomes)).toEqual(new Set([Status.UNAVAILABLE]));
  expect(await controller.ended).toEqual([0, null]);
  await controllerIsBack();
  await allAreThereOnce(requests, outcomes);
});

test("a watch that has not caught up with what it has shown when the controller stops does not say that it has", async () => {
  const seen: string[] = [];
  const write = "insert into audit_entry (actor, subject, action, object, detail) values ('t', 't', 'test', 'x', '{}')"; // its order is open until it ends
  await installation.holding(write, [], async () => {
    const { vm } = await controller.admin.vms.createVm(createOf("watched")); // behind that, so that its event waits
    const shown = Promise.withResolvers<void>();
    const watching = (async () => {
      for await (const message of controller.admin.vms.watchVms({ vm: vm?.id ?? "" })) {
        seen.push(message.synced ? "synced" : `shown ${message.resumeToken}`);
        shown.resolve();
      }
    })();
    await shown.promise;
    controller.signal("SIGTERM");
    await watching;
  });
  expect(seen).toEqual(["shown "]);
  expect(await controller.ended).toEqual([0, null]);
  await controllerIsBack();
});

async function controllerIsBack(): Promise<void> {
  controller = await installation.startController({ ...unlimited, ...addresses });
  await eventually(async () => (await controller.admin.nodes.listNodes({})).nodes.some(({ state }) => state === 1) || undefined);
}

/** What was answered is there, and what was not comes with the second try. */
async function allAreThereOnce(
  requests: readonly { requestId: string; name: string }[],
  first: readonly (string | Status)[],
): Promise<void> {
  const again = await Promise.all(requests.map((request) => outcome(controller.admin.vms.createVm(request))));
  expect(again.filter((one, n) => typeof one !== "string" || (typeof first[n] === "string" && first[n] !== one))).toEqual([]);
  const rows = await installation.query("select id from vm where name = any ($1)", [requests.map(({ name }) => name)]);
  expect(new Set(rows.map(({ id }) => id))).toEqual(new Set(again));
  expect(rows).toHaveLength(requests.length);
}
