// Open ways into VMs whose callers lose what let them in. The controller's side is in services/controller/tests/access-sessions.test.ts.
import { once } from "node:events";
import { PassThrough } from "node:stream";
import type { CheckedTunnel } from "@pitwall/proto/pitwall/v1/access.ts";
import { silentLog, systemClock } from "@pitwall/runtime";
import { ClientError, Status } from "nice-grpc";
import { expect, it, onTestFinished } from "vitest";
import type { AccessClient } from "../src/controller-link.ts";
import { LiveTunnels } from "../src/tunnels/live-tunnels.ts";

const checked = (key: string): CheckedTunnel => ({
  caller: { credential: { $case: "sshPublicKey", value: key } },
  vm: "v",
  method: "",
  host: "",
  port: 0,
  unrecordedSsh: false,
  logins: [],
});

/** Before a controller that answers so. */
function tunnels(
  answer: (asked: readonly unknown[]) => number[],
  { staleMs = 300_000, endedSessions = [], unknown = [] }: { staleMs?: number; endedSessions?: string[]; unknown?: number[] } = {},
): LiveTunnels {
  const checkTunnels: AccessClient["checkTunnels"] = async ({ tunnels: asked = [] }) => ({ lost: answer(asked), endedSessions, unknown });
  const live = new LiveTunnels(() => ({ checkTunnels }), { staleMs, log: silentLog });
  onTestFinished(() => live[Symbol.asyncDispose]());
  return live;
}

it("end within seconds, those of others do not, and those that came alike are asked for once", async () => {
  const asked: number[] = [];
  const live = tunnels((all) => {
    asked.push(all.length);
    return [0];
  });
  const streams = [new PassThrough(), new PassThrough(), new PassThrough()] as const;
  live.follow(checked("gone"), streams[0]);
  live.follow(checked("gone"), streams[1]);
  live.follow(checked("stays"), streams[2]);
  const begun = performance.now();
  const [error] = await Promise.all([once(streams[0], "close").catch((reason: unknown) => reason), once(streams[1], "error")]);
  expect(error).toMatchObject({ fault: "denied", reason: "ACCESS_REVOKED" });
  expect(performance.now() - begun).toBeLessThan(5_000);
  expect(streams[2].destroyed).toBe(false);
  expect(asked).toEqual([2]);
  streams[2].destroy();
});

it("end when no controller has said for long that they may stay, and not before", { timeout: 20_000 }, async () => {
  let isAway = false;
  const staleMs = 3_000;
  const live = tunnels(
    () => {
      if (isAway) throw new ClientError("CheckTunnels", Status.UNAVAILABLE, "no");
      return [];
    },
    { staleMs },
  );
  const stream = new PassThrough();
  const ended = once(stream, "error");
  live.follow(checked("a"), stream);
  const letIn = performance.now();
  await expect.poll(() => performance.now() - letIn, { timeout: 10_000 }).toBeGreaterThan(2 * staleMs); // a controller lets it
  expect(stream.destroyed).toBe(false);
  isAway = true;
  const since = performance.now();
  expect(await ended).toMatchObject([{ fault: "unavailable", reason: "ACCESS_STALE" }]);
  const tookMs = performance.now() - since;
  expect(tookMs).toBeGreaterThan(staleMs - 2_500); // it was let in when it was asked for last, before that
  expect(tookMs).toBeLessThan(staleMs + 2_500);
});

it("end when somebody has ended their session", async () => {
  const live = tunnels(() => [], { endedSessions: ["ended", "of another time"] });
  const streams = [new PassThrough(), new PassThrough()] as const;
  live.follow(checked("a"), streams[0], "ended");
  live.follow(checked("a"), streams[1], "stays");
  const [error] = (await once(streams[0], "error", { signal: AbortSignal.timeout(5_000) })) as [unknown];
  expect(error).toMatchObject({ fault: "denied", reason: "SESSION_ENDED" });
  expect(streams[1].destroyed).toBe(false);
  streams[1].destroy();
});

it.each([
  ["for minutes while no controller is there", Status.UNAVAILABLE, 300_000],
  ["for good while the controller is of the version before, which knows of no such question", Status.UNIMPLEMENTED, 3_000],
])("go on %s", { timeout: 20_000 }, async (_, code, staleMs) => {
  const begun = performance.now();
  let asked = 0;
  const live = tunnels(
    () => {
      asked++;
      throw new ClientError("CheckTunnels", code, "no");
    },
    { staleMs },
  );
  const stream = new PassThrough().on("error", () => undefined);
  live.follow(checked("a"), stream);
  await expect.poll(() => asked, { timeout: 15_000 }).toBe(4);
  expect(performance.now() - begun).toBeGreaterThan(2 * 3_000); // long stale, were it not let
  expect(stream.destroyed).toBe(false);
  stream.destroy();
});

it("of 2,000 that came for different things, the one whose key is taken away ends in time", { timeout: 20_000 }, async () => {
  const perWayMs = 2.5; // as a controller that asks its database thrice for each
  const gone = new Set<string>();
  let [atOnce, mostAtOnce, mostAsked] = [0, 0, 0];
  const checkTunnels: AccessClient["checkTunnels"] = async ({ tunnels: asked = [] }) => {
    [mostAtOnce, mostAsked] = [Math.max(mostAtOnce, ++atOnce), Math.max(mostAsked, asked.length)];
    const lost = asked.flatMap(({ caller }, at) =>
      caller?.credential?.$case === "sshPublicKey" && gone.has(caller.credential.value ?? "") ? [at] : [],
    );
    await systemClock.sleep(asked.length * perWayMs);
    atOnce--;
    return { lost, endedSessions: [], unknown: [] };
  };
  const live = new LiveTunnels(() => ({ checkTunnels }), { staleMs: 300_000, log: silentLog });
  onTestFinished(() => live[Symbol.asyncDispose]());
  const streams = Array.from({ length: 2_000 }, (_, at) => {
    const stream = new PassThrough();
    live.follow(checked(`key ${at}`), stream);
    return stream;
  });
  await expect.poll(() => mostAsked, { timeout: 5_000, interval: 5 }).toBeGreaterThan(0); // a round has just begun: the next one has to find it
  for (const at of [1, 1_999]) {
    const ended = once(streams[at] ?? new PassThrough(), "error");
    gone.add(`key ${at}`);
    const since = performance.now();
    expect(await ended).toMatchObject([{ reason: "ACCESS_REVOKED" }]);
    expect(performance.now() - since).toBeLessThan(5_000);
  }
  expect(streams.filter((stream) => stream.destroyed)).toHaveLength(2);
  expect(mostAsked).toBe(100);
  expect(mostAtOnce).toBe(4);
  for (const stream of streams) stream.destroy();
});

it(
  "end when no controller has been able to say for long that this one may stay, whatever it says of others",
  { timeout: 20_000 },
  async () => {
    const staleMs = 3_000;
    const live = tunnels(() => [], { staleMs, unknown: [1] });
    const streams = [new PassThrough(), new PassThrough()] as const;
    for (const [at, stream] of streams.entries()) live.follow(checked(`key ${at}`), stream);
    const since = performance.now();
    expect(await once(streams[1], "error")).toMatchObject([{ fault: "unavailable", reason: "ACCESS_STALE" }]);
    expect(performance.now() - since).toBeGreaterThan(staleMs - 100); // by another clock than that of timers
    expect(streams[0].destroyed).toBe(false);
    streams[0].destroy();
  },
);
