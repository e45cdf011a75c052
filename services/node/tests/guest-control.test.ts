// What the node does to a guest besides asking: its clock, its entropy, hearing it out.
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { GuestState, type WatchStateResponse } from "@pitwall/proto/pitwall/v1/guest.ts";
import { fromDuration, silentLog, systemClock, systemRandom } from "@pitwall/runtime";
import { Status } from "nice-grpc";
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from "vitest";
import { openGuest, type Guest } from "../src/guest/client.ts";
import { GuestWatch } from "../src/machine/guest-watch.ts";
import { openQemuDriver } from "../src/qemu/driver.ts";
import { openSimDriver } from "../src/sim/driver.ts";
import { openVmMakings, type VmMakings } from "./support/vm-makings.ts";

let makings: VmMakings;

beforeAll(async () => {
  makings = await openVmMakings();
});

afterAll(() => makings?.[Symbol.asyncDispose]());

describe("powerunit", () => {
  async function boot(): Promise<Guest> {
    const vmm = await openQemuDriver({ kernel: makings.kernel, cacheDir: makings.dir }).start(await makings.makeSpec());
    onTestFinished(() => vmm.kill());
    const guest = await openGuest(vmm, AbortSignal.timeout(30_000));
    for await (const { state } of guest.control.watchState({})) if (state === GuestState.GUEST_STATE_READY) break;
    return guest;
  }

  /** As the guest's clock has it. */
  async function nowMs({ guest }: Guest): Promise<number> {
    const start = { $case: "start" as const, value: { path: "/clock", mode: 0, user: "" } };
    const { file } = await guest.writeFile(
      (async function* () {
        yield { message: start };
        yield { message: { $case: "end" as const, value: true } };
      })(),
    );
    return file?.modifyTime?.getTime() ?? Number.NaN;
  }

  it("sets its clock, and leaves it alone when it is nearly right or the time is missing", async () => {
    await using guest = await boot();
    const { control } = guest;
    const past = Date.UTC(2001, 8, 9);
    await control.setTime({ time: new Date(past) });
    const set = await nowMs(guest);
    expect(set).toBeGreaterThanOrEqual(past - 10); // a file's time is that of the last tick
    expect(set).toBeLessThan(past + 60_000);
    const begun = performance.now();
    const first = await nowMs(guest);
    await control.setTime({ time: new Date(first + 60) });
    const second = await nowMs(guest);
    expect(second - first).toBeLessThanOrEqual((performance.now() - begun) * 1.05 + 10);
    await expect(control.setTime({})).rejects.toMatchObject({ code: Status.INVALID_ARGUMENT, details: "time: is required" });
    await control.setTime({ time: new Date() });
    expect(Math.abs((await nowMs(guest)) - Date.now())).toBeLessThan(30_000);
  });

  it("keeps time with the host", async () => {
    await using guest = await boot();
    const look = async (): Promise<{ guestMs: number; afterMs: number; beforeMs: number }> => {
      const afterMs = performance.now();
      const { uptime } = await guest.guest.getStats({});
      return { guestMs: fromDuration(uptime!), afterMs, beforeMs: performance.now() };
    };
    const first = await look();
    let last = await look();
    while (last.afterMs - first.beforeMs < 3_000) last = await look();
    // However slow the calls are: the guest looked at its clock after one moment of the host's and before another.
    expect(last.guestMs - first.guestMs).toBeGreaterThan(0.99 * (last.afterMs - first.beforeMs) - 20);
    expect(last.guestMs - first.guestMs).toBeLessThan(1.01 * (last.beforeMs - first.afterMs) + 20);
  });

  it("takes entropy, but not none and not more than 4 KiB", async () => {
    await using guest = await boot();
    const { control } = guest;
    await control.addEntropy({ data: Buffer.alloc(1, 1) });
    await control.addEntropy({ data: Buffer.alloc(4096, 1) });
    for (const length of [0, 4097]) {
      await expect(control.addEntropy({ data: Buffer.alloc(length) })).rejects.toMatchObject({
        code: Status.INVALID_ARGUMENT,
        details: `data: expected 1 to 4096 bytes, got ${length}`,
      });
    }
  });
});

describe("a watched guest", () => {
  const host = { openGuest, clock: systemClock, random: systemRandom };

  it("is told the time and given entropy on each channel, and the time when asked", async () => {
    const spec = await makings.makeSpec();
    const vmm = await openSimDriver().start(spec);
    onTestFinished(() => vmm.kill());
    const told = async (): Promise<string[]> =>
      (await readFile(join(spec.dir, "sim.log"), "utf8")).match(/^(time \d{4}|entropy \d+)/gm) ?? [];
    const thisYear = `time ${new Date().getFullYear()}`;
    const first = new GuestWatch(host, vmm, () => undefined, silentLog);
    await expect.poll(async () => (await told()).toSorted(), { timeout: 10_000 }).toEqual(["entropy 64", thisYear]);
    await first.setTime();
    expect((await told()).toSorted()).toEqual(["entropy 64", thisYear, thisYear]);
    await first.close();
    const second = new GuestWatch(host, vmm, () => undefined, silentLog);
    await expect.poll(async () => (await told()).length, { timeout: 10_000 }).toBe(5);
    await second.close();
  });

  it("is heard out: what it says before it ends arrives, and then the watch is done", async () => {
    const vmm = await openSimDriver().start(await makings.makeSpec());
    onTestFinished(() => vmm.kill());
    const words: WatchStateResponse["state"][] = [];
    const watch = new GuestWatch(host, vmm, ({ state }) => words.push(state), silentLog);
    const guest = await watch.guest(AbortSignal.timeout(10_000));
    await expect.poll(() => words.at(-1)).toBe(GuestState.GUEST_STATE_READY);
    await guest?.control.shutdown({});
    await vmm.exited;
    await watch.done;
    expect(words.at(-1)).toBe(GuestState.GUEST_STATE_STOPPING);
    expect(await watch.guest(AbortSignal.timeout(10_000))).toBeUndefined();
  });
});

it("a channel that ends before it was used fails its calls, and nothing else", async () => {
  const vmm = await openSimDriver().start(await makings.makeSpec());
  onTestFinished(() => vmm.kill());
  const guest = await openGuest(vmm, AbortSignal.timeout(10_000));
  await using _next = await openGuest(vmm, AbortSignal.timeout(10_000)); // one at a time: it ends the one before
  await expect(guest.control.shutdown({})).rejects.toMatchObject({ code: Status.UNAVAILABLE });
  await guest.closed;
  await guest[Symbol.asyncDispose]();
});
