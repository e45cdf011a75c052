// A controller is killed while many VMs are asked for, through a gateway, by clients that try again.
import { randomUUID } from "node:crypto";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { JoinRole } from "@pitwall/proto/pitwall/v1/node.ts";
import { Phase } from "@pitwall/proto/pitwall/v1/vm.ts";
import { ClientError, Status } from "nice-grpc";
import { afterAll, beforeAll, expect, test } from "vitest";
import {
  eventually,
  startInstallation,
  throughGateway,
  type AdminApi,
  type Controller,
  type Installation,
} from "./support/installation.ts";
import { startProcess, type ServiceProcess } from "./support/processes.ts";
import { joinNode, keepLinked } from "./support/spoken-node.ts";

const creates = 500;
const clients = 8;
const nodeCount = 3;

let installation: Installation;
let doomed: Controller;
let other: Controller;
let gateway: ServiceProcess;
let api: AdminApi;

beforeAll(async () => {
  installation = await startInstallation();
  const unlimited = { PITWALL_CHANGES_PER_SECOND: "100000", PITWALL_READS_PER_SECOND: "100000" };
  doomed = await installation.startController(unlimited);
  gateway = await startProcess("gateway", {
    PITWALL_STATE_DIR: join(installation.dir, "gateway"),
    PITWALL_LISTEN: "127.0.0.1:0",
    PITWALL_SSH_LISTEN: "127.0.0.1:0",
    PITWALL_TUNNEL_LISTEN: "127.0.0.1:0",
    PITWALL_ISSUER: installation.issuer,
    PITWALL_JOIN: (await doomed.admin.nodes.createJoinToken({ role: JoinRole.JOIN_ROLE_GATEWAY, name: "gateway" })).join,
  });
  api = throughGateway(Number(gateway.ready["web"]), await installation.token());
  await api.vms.listVms({}); // by now it has chosen the only controller there is
  other = await installation.startController(unlimited);
  const identity = join(installation.dir, "gateway", "identity", "identity.json");
  await eventually(async () => (await readFile(identity, "utf8")).includes(other.link) || undefined);
  await installation.query(
    "update project set quota_vms = 10000, quota_cpu_millis = 1000000000, quota_mem_bytes = 1::bigint << 50, quota_disk_bytes = 1::bigint << 55, quota_addresses = 10000",
  );
}, 120_000);

afterAll(async () => {
  await gateway?.[Symbol.asyncDispose]();
  await Promise.all([doomed?.[Symbol.asyncDispose](), other?.[Symbol.asyncDispose]()]);
  await installation?.[Symbol.asyncDispose]();
});

/** One VM, asked for until it is acknowledged; with one request id, as the SDK does. */
async function create(name: string): Promise<string> {
  const request = {
    requestId: randomUUID(),
    name,
    spec: { image: installation.image, cpuMillis: 100, memBytes: 128n << 20n, diskBytes: 64n << 20n },
  };
  return eventually(async () => {
    try {
      return (await api.vms.createVm(request)).vm?.id ?? "";
    } catch (error) {
      if (error instanceof ClientError && (error.code === Status.UNAVAILABLE || error.code === Status.UNKNOWN)) return undefined;
      throw error;
    }
  });
}

test(
  `of ${creates} VMs asked for while a controller is killed, each that is acknowledged is there once, and none is lost`,
  { timeout: 180_000 },
  async () => {
    await using linked = new AsyncDisposableStack();
    for (let i = 0; i < nodeCount; i++) {
      const node = await joinNode(installation, other.admin, `node-${i}`);
      linked.use(keepLinked(node, i % 2 === 0 ? [doomed.link, other.link] : [other.link, doomed.link], 200));
    }
    await eventually(async () =>
      (await other.admin.nodes.listNodes({})).nodes.filter(({ state }) => state === 1).length === nodeCount ? true : undefined,
    );
    const names = Array.from({ length: creates }, (_, i) => `vm-${i}`);
    const acknowledged = new Map<string, string>();
    const afterKill = Promise.withResolvers<number>();
    let next = 0;
    await Promise.all(
      Array.from({ length: clients }, async () => {
        for (let name = names[next++]; name !== undefined; name = names[next++]) {
          acknowledged.set(name, await create(name));
          if (acknowledged.size !== creates / 2) continue;
          doomed.signal("SIGKILL");
          const killedMs = performance.now();
          acknowledged.set("after", await create("after"));
          afterKill.resolve(performance.now() - killedMs);
        }
      }),
    );
    expect(acknowledged.size).toBe(creates + 1);
    const acceptedMs = await afterKill.promise;
    console.log(`a VM asked for right after the kill was accepted ${Math.round(acceptedMs)} ms later`);
    expect(acceptedMs).toBeLessThan(2_000);
    const rows = await installation.query("select id, name from vm");
    expect(rows.length).toBe(creates + 1);
    expect(new Map(rows.map(({ id, name }) => [name, id]))).toEqual(acknowledged);
    // Every node is back on the other controller, and brings about all of it.
    await eventually(async () => {
      const [row] = await installation.query("select count(*) as left from vm where phase <> $1", [Phase.PHASE_RUNNING]);
      return row?.["left"] === "0" ? true : undefined;
    });
  },
);
