// An agent in a process of its own, so that it can be killed and stopped: real fence, real journals, VMMs that are real processes, and
// a controller that acknowledges everything until SIGUSR1. It prints its reports as lines of JSON. Failpoints are armed as in main.ts.
//
// lone-agent.ts DIR FENCE TTL_MS ASSIGNMENTS_JSON
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { Assignment, VmReport, type ConnectRequest, type ConnectResponse } from "@pitwall/proto/pitwall/v1/link.ts";
import { failpointsFrom, openLog, Outbox, systemClock, systemRandom, toDuration } from "@pitwall/runtime";
import { startAgent } from "../../src/agent.ts";
import { openGuest } from "../../src/guest/client.ts";
import { openFence } from "../../src/host/fence.ts";
import { openJournalFiles } from "../../src/host/journal-files.ts";
import { hostProcesses } from "../../src/host/processes.ts";
import { noTimings } from "../../src/machine/reports.ts";
import { openSimDriver } from "../../src/sim/driver.ts";

const [dir = "", program = "", ttlMs = "", wanted = "[]"] = process.argv.slice(2);
const assignments = (JSON.parse(wanted) as unknown[]).map((one) => Assignment.fromJSON(one));
mkdirSync(dir, { recursive: true });
const log = openLog("agent", "error");
let isReachable = true;
let session: Outbox<ConnectResponse> | undefined;
process.on("SIGUSR1", () => {
  isReachable = false;
  session?.fail(new Error("the network is gone"));
});

async function* dial(requests: AsyncIterable<ConnectRequest>, signal: AbortSignal): AsyncGenerator<ConnectResponse> {
  if (!isReachable) throw new Error("nobody answers");
  const answers = new Outbox<ConnectResponse>(1_000);
  session = answers;
  signal.addEventListener("abort", () => answers.close(), { once: true });
  void listen(requests, answers);
  yield* answers;
}

async function listen(requests: AsyncIterable<ConnectRequest>, answers: Outbox<ConnectResponse>): Promise<void> {
  for await (const { message } of requests) {
    if (message?.$case === "report") process.stdout.write(`${JSON.stringify(VmReport.toJSON(message.value))}\n`);
    if (message?.$case === "heartbeat") answers.push({ message: { $case: "heartbeatAck", value: { sequence: message.value.sequence } } });
    if (message?.$case !== "hello") continue;
    for (const report of message.value.inventory?.vms ?? []) process.stdout.write(`${JSON.stringify(VmReport.toJSON(report))}\n`);
    const times = { heartbeatInterval: toDuration(Number(ttlMs) / 5), leaseTtl: toDuration(Number(ttlMs)) };
    answers.push({
      message: { $case: "welcome", value: { nodeId: "n", sessionEpoch: 1n, controllers: [], sshUserAuthorities: [], ...times } },
    });
    answers.push({ message: { $case: "assignments", value: { assignments, complete: true } } });
  }
}

const parts = { clock: systemClock, random: systemRandom, failpoints: failpointsFrom(process.env, log), log };
const driver = openSimDriver(parts.failpoints);
const capacity = { cpuMillis: 1000n, memBytes: 2n ** 30n, diskBytes: 2n ** 30n };
await startAgent({
  ...parts,
  dial,
  driver,
  probed: await driver.probe(),
  fence: await openFence({ ...parts, program, dir: join(dir, "fence") }),
  kernel: "",
  network: undefined,
  processes: hostProcesses,
  journals: openJournalFiles(join(dir, "vms")),
  ingredients: {
    prepare: async () => ({ base: "", disk: "", initramfs: "", sshHostKey: "ssh-ed25519 AAAA", timings: noTimings }),
    discard: async () => undefined,
    lease: () => ({ [Symbol.dispose]: () => undefined }),
  },
  openGuest,
  bootId: "1",
  bootLimitMs: 10_000,
  capacity,
  available: async () => capacity,
  labels: {},
  openTunnels: () => ({ open: async () => undefined, close: () => undefined }),
  answerImages: async ({ requestId }) => ({ requestId, reason: "", message: "", inventory: undefined, freed: undefined }),
});
