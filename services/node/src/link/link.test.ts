import type { Assignment, Assignments, ConnectResponse, Inventory } from "@pitwall/proto/pitwall/v1/link.ts";
import { ConnectRequest, VmReport } from "@pitwall/proto/pitwall/v1/link.ts";
import { Phase } from "@pitwall/proto/pitwall/v1/vm.ts";
import { failpointsFrom, noFailpoints, Outbox, seededRandom, silentLog, toDuration, VirtualClock } from "@pitwall/runtime";
import { expect, onTestFinished, test } from "vitest";
import { openLease } from "./lease.ts";
import { openLink, type Link } from "./link.ts";

const hello = { agentVersion: "", capability: 3, capacity: undefined, drivers: [], labels: {}, inventory: undefined, subnet: undefined };
const ttlMs = 10_000;
const empty: Assignments = { assignments: [], complete: false };

interface Begin {
  readonly readMs: number;
  readonly assigned: readonly Assignments[];
  readonly onAssignments: (clock: VirtualClock, list: Assignments) => Promise<void>;
  readonly inventory?: Inventory;
  readonly heldImages?: () => Promise<readonly string[]>;
}

interface Run {
  readonly clock: VirtualClock;
  readonly link: Link;
  readonly isHeld: () => boolean;
  /** What came up, the oldest first. */
  readonly heard: ConnectRequest["message"][];
  /** How often a lease was lost. */
  losses: number;
}

/** A node whose controller reads a message in `readMs`, acknowledges heartbeats, and says all this with the welcome. */
function begin(options: Begin): Run {
  const clock = new VirtualClock();
  const heard: ConnectRequest["message"][] = [];
  const fence = { deadlineMs: 0, renew: () => undefined };
  const parts = { clock, failpoints: noFailpoints, log: silentLog, random: seededRandom("1") };

  async function read(requests: AsyncIterable<ConnectRequest>, responses: Outbox<ConnectResponse>): Promise<void> {
    for await (const { message } of requests) {
      heard.push(message);
      if (message?.$case === "hello") {
        const times = { heartbeatInterval: toDuration(1_000), leaseTtl: toDuration(ttlMs) };
        responses.push({
          message: { $case: "welcome", value: { nodeId: "n", sessionEpoch: 1n, controllers: [], sshUserAuthorities: [], ...times } },
        });
        for (const value of options.assigned) responses.push({ message: { $case: "assignments", value } });
      }
      if (message?.$case === "heartbeat") responses.push({ message: { $case: "heartbeatAck", value: message.value } });
      await clock.sleep(options.readMs);
    }
  }

  const lease = openLease({ ...parts, fence, onLost: async (wasHeld) => void (wasHeld && run.losses++) });
  const link = openLink(
    {
      ...parts,
      lease,
      dial(requests, signal) {
        const responses = new Outbox<ConnectResponse>(1_000);
        signal.addEventListener("abort", () => responses.close(), { once: true });
        void read(requests, responses);
        return responses;
      },
    },
    {
      hello: () => ({ ...hello, inventory: options.inventory }),
      available: async () => ({ cpuMillis: 0n, memBytes: 0n, diskBytes: 0n }),
      onAssignments: (list) => options.onAssignments(clock, list),
      onTunnel: async () => undefined,
      onImageCommand: async ({ requestId }) => ({
        requestId,
        reason: "",
        message: "",
        inventory: undefined,
        subnet: undefined,
        freed: undefined,
      }),
      onNetworkCommand: () => Promise.reject(new Error("nobody asks")),
      ...(options.heldImages && { heldImages: options.heldImages }),
    },
  );
  const run: Run = { clock, link, heard, isHeld: lease.isHeld, losses: 0 };
  return run;
}

const count = ({ heard }: Run, kind: string): number => heard.filter((message) => message?.$case === kind).length;

test("heartbeats go before all that VMs have to say: a slow controller costs no lease", async () => {
  const run = begin({ readMs: 100, assigned: [], onAssignments: async () => undefined });
  await run.clock.advance(1_000);
  const reports = 1_000;
  for (let i = 0; i < reports; i++) run.link.report(VmReport.fromPartial({ vmId: String(i), phase: Phase.PHASE_RUNNING }));
  await run.clock.advance((reports + 300) * 100);
  expect([count(run, "hello"), count(run, "report"), run.losses, run.isHeld()]).toEqual([1, reports, 0, true]);
  expect(count(run, "heartbeat")).toBeGreaterThan(100);
  const told = run.heard.flatMap((message) => (message?.$case === "report" ? [message.value.vmId] : []));
  expect(told).toEqual(Array.from({ length: reports }, (_, i) => String(i)));
});

test("what a node has comes in as many messages as it takes, none of them too large, and only what came in one is complete", async () => {
  const inventory = (length: number): Inventory => {
    const vms = Array.from({ length }, (_, n) =>
      VmReport.fromPartial({ vmId: String(n), phase: Phase.PHASE_RUNNING, message: "x".repeat(300), sshHostKey: "k".repeat(100) }),
    );
    return { vms, complete: true };
  };
  const saidOf = async (has: Inventory): Promise<Inventory[]> => {
    const run = begin({ readMs: 0, assigned: [], onAssignments: async () => undefined, inventory: has });
    await run.clock.advance(500);
    for (const message of run.heard) expect(ConnectRequest.encode({ message }).finish().length).toBeLessThan(2 ** 20);
    return run.heard.flatMap((message) => {
      if (message?.$case === "hello") return message.value.inventory ?? [];
      return message?.$case === "inventory" ? message.value : [];
    });
  };
  expect(await saidOf(inventory(3))).toEqual([inventory(3)]);
  const many = inventory(6_000);
  const parts = await saidOf(many);
  expect(parts.length).toBeGreaterThan(1);
  expect(parts.map(({ complete, part, partCount }) => [complete, part, partCount])).toEqual(
    parts.map((_, index) => [false, index + 1, parts.length]),
  );
  expect(parts.flatMap(({ vms }) => vms)).toEqual(many.vms);
});

test("which images it holds is said once in a session, and again when they are others; when it cannot be told, nothing", async () => {
  let held: readonly string[] | undefined = [];
  const heldImages = async (): Promise<readonly string[]> => held ?? Promise.reject(new Error("the disk is gone"));
  const run = begin({ readMs: 0, assigned: [], onAssignments: async () => undefined, heldImages });
  const said = (): (readonly string[])[] =>
    run.heard.flatMap((message) => (message?.$case === "heldImages" ? [message.value.digests] : []));
  await run.clock.advance(5_500);
  expect(said()).toEqual([[]]);
  held = ["a", "b"];
  await run.clock.advance(5_000);
  expect(said()).toEqual([[], ["a", "b"]]);
  held = undefined;
  await run.clock.advance(5_000);
  held = ["b"];
  await run.clock.advance(5_000);
  expect(said()).toEqual([[], ["a", "b"], ["b"]]);
  run.link.startAnew("for a test");
  await run.clock.advance(5_000);
  expect(said()).toEqual([[], ["a", "b"], ["b"], ["b"]]);
  held = Array.from({ length: 600 }, (_, n) => String(n));
  await run.clock.advance(2_000);
  expect(said().at(-1)?.length).toBe(512);
});

test("a complete list that comes in parts is taken once, as one; with a part missing it is not taken, and the session begins anew", async () => {
  const assigned = (vmId: string): Assignment => ({
    ...{ vmId, vmName: "", generation: 1n, epoch: 1n, desired: 1, spec: undefined, imageDigest: "", authorizedKeys: [] },
    ...{ restartGeneration: 1n, imageCredential: undefined, address: undefined },
  });
  const list = (vmId: string, part: number, partCount: number): Assignments => ({
    ...{ assignments: [assigned(vmId)], complete: false, part, partCount },
  });
  const taken: [string[], boolean][] = [];
  const onAssignments = async (_: VirtualClock, { assignments, complete }: Assignments): Promise<void> =>
    void taken.push([assignments.map(({ vmId }) => vmId), complete]);
  const whole = begin({ readMs: 0, assigned: [list("a", 1, 3), list("b", 2, 3), list("c", 3, 3)], onAssignments });
  await whole.clock.advance(500);
  expect(taken).toEqual([[["a", "b", "c"], true]]);
  const cut = begin({ readMs: 0, assigned: [list("a", 1, 3), list("c", 3, 3)], onAssignments });
  await cut.clock.advance(2_000);
  expect(taken.length).toBe(1);
  expect(count(cut, "hello")).toBeGreaterThan(1);
});

test("acknowledgements are heard while assignments wait for a slow disk, which take their turns", async () => {
  let [now, atOnce, taken] = [0, 0, 0];
  const run = begin({
    readMs: 0,
    assigned: Array.from({ length: 10 }, () => empty),
    async onAssignments(clock) {
      atOnce = Math.max(atOnce, ++now);
      await clock.sleep(ttlMs);
      now--;
      taken++;
    },
  });
  await run.clock.advance(11 * ttlMs);
  expect([count(run, "hello"), run.losses, run.isHeld(), atOnce, taken]).toEqual([1, 0, true, 1, 10]);
});

test("what waits to be taken at the end of a session is dropped: the next one tells it anew", async () => {
  let taken = 0;
  const run = begin({
    readMs: 0,
    assigned: [empty, empty, empty],
    async onAssignments(clock) {
      taken++;
      await clock.sleep(1_000);
    },
  });
  await run.clock.advance(500);
  run.link.startAnew("for a test");
  await run.clock.advance(400);
  expect([taken, count(run, "hello")]).toEqual([1, 1]); // it is being taken still
  await run.clock.advance(10_000);
  expect([taken, count(run, "hello")]).toEqual([4, 2]);
});

test("a heartbeat that cannot be sent ends its session, not the agent: the next session's are", async () => {
  const clock = new VirtualClock();
  const failpoints = failpointsFrom({ PITWALL_FAILPOINTS: "lease.sent#1=throw", PITWALL_ALLOW_FAILPOINTS: "1" }, silentLog, clock);
  const parts = { clock, failpoints, log: silentLog };
  const lease = openLease({ ...parts, fence: { deadlineMs: 0, renew: () => undefined }, onLost: async () => undefined });
  onTestFinished(() => lease[Symbol.dispose]());
  let sessions = 0;
  const heartbeats: number[] = [];
  async function* dial(requests: AsyncIterable<ConnectRequest>, signal: AbortSignal): AsyncGenerator<ConnectResponse> {
    const session = ++sessions;
    const answers = new Outbox<ConnectResponse>(10);
    signal.addEventListener("abort", () => answers.close(), { once: true });
    const times = { heartbeatInterval: toDuration(2_000), leaseTtl: toDuration(10_000) };
    answers.push({
      message: {
        $case: "welcome",
        value: { nodeId: "n", sessionEpoch: BigInt(session), controllers: [], sshUserAuthorities: [], ...times },
      },
    });
    void (async () => {
      for await (const { message } of requests) if (message?.$case === "heartbeat") heartbeats.push(session);
    })();
    yield* answers;
  }
  const link = openLink(
    { ...parts, dial, lease, random: () => 0.5 },
    {
      hello: () => hello,
      available: async () => ({ cpuMillis: 0n, memBytes: 0n, diskBytes: 0n }),
      onAssignments: async () => undefined,
      onTunnel: async () => undefined,
      onImageCommand: () => Promise.reject(new Error("nobody asks")),
      onNetworkCommand: () => Promise.reject(new Error("nobody asks")),
    },
  );
  await clock.advance(5_000);
  expect(sessions).toBe(2);
  expect(heartbeats.slice(0, 2)).toEqual([2, 2]);
  const ended = link[Symbol.asyncDispose]();
  await clock.advance(1_000);
  await ended;
});
