import type { ConnectRequest, ConnectResponse } from "@pitwall/proto/pitwall/v1/link.ts";
import { failpointsFrom, Outbox, silentLog, toDuration, VirtualClock } from "@pitwall/runtime";
import { expect, onTestFinished, test } from "vitest";
import { openLease } from "./lease.ts";
import { openLink } from "./link.ts";

const hello = { agentVersion: "", capability: 3, capacity: undefined, drivers: [], labels: {}, inventory: undefined };

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
    answers.push({ message: { $case: "welcome", value: { nodeId: "n", sessionEpoch: BigInt(session), controllers: [], ...times } } });
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
    },
  );
  await clock.advance(5_000);
  expect(sessions).toBe(2);
  expect(heartbeats.slice(0, 2)).toEqual([2, 2]);
  const ended = link[Symbol.asyncDispose]();
  await clock.advance(1_000);
  await ended;
});
