// A real agent, in a process of its own, that beats slowly: its pulses say that it is there, and their end that it is not.
import { join } from "node:path";
import { JoinRole } from "@pitwall/proto/pitwall/v1/node.ts";
import { afterAll, beforeAll, expect, test } from "vitest";
import { eventually, startInstallation, type Controller, type Installation } from "./support/installation.ts";
import { startProcess, type ServiceProcess } from "./support/processes.ts";

let installation: Installation;
let controller: Controller;
let agent: ServiceProcess;

beforeAll(async () => {
  installation = await startInstallation();
  // Two and a half of these heartbeats are longer than this test may take.
  controller = await installation.startController({ PITWALL_HEARTBEAT: "60s", PITWALL_LEASE: "150s" });
  const { join: text } = await controller.admin.nodes.createJoinToken({ role: JoinRole.JOIN_ROLE_NODE, name: "" });
  agent = await startProcess("node", {
    PITWALL_STATE_DIR: join(installation.dir, "agent"),
    PITWALL_SIMULATE: "true",
    PITWALL_NAME: "slow",
    PITWALL_JOIN: text,
  });
}, 60_000);

afterAll(async () => {
  await agent?.[Symbol.asyncDispose]();
  await controller?.[Symbol.asyncDispose]();
  await installation?.[Symbol.asyncDispose]();
});

interface Seen {
  readonly epoch: number;
  readonly reason: string;
  readonly isOld: boolean;
}

async function session(): Promise<Seen> {
  const [row] = await installation.query(
    `select epoch::int, end_reason, now() - start_time > interval '8 seconds' as is_old from node_session`,
  );
  return { epoch: Number(row?.["epoch"]), reason: String(row?.["end_reason"]), isOld: row?.["is_old"] === true };
}

test("a node whose next heartbeat is far away stays while its pulses come", { timeout: 60_000 }, async () => {
  const old = await eventually(async () => {
    const seen = await session();
    return seen.isOld || seen.reason !== "" ? seen : undefined;
  }, 100);
  expect(old).toEqual({ epoch: 1, reason: "", isOld: true });
});

test(
  "one that stands still, with its connection open, is seen to be silent long before a heartbeat is due",
  { timeout: 60_000 },
  async () => {
    agent.signal("SIGSTOP");
    const reason = await eventually(async () => {
      const seen = await session();
      return seen.reason === "" ? undefined : seen.reason;
    });
    expect(reason).toBe("silent");
  },
);

test("it is back with its next session when it goes on", { timeout: 60_000 }, async () => {
  agent.signal("SIGCONT");
  await eventually(async () => {
    const { epoch, reason } = await session();
    return (epoch > 1 && reason === "") || undefined;
  });
});
