import { expect, test } from "vitest";
import { failpointsFrom, noFailpoints } from "./failpoints.ts";
import { silentLog } from "./log.ts";
import { VirtualClock } from "./virtual-clock.ts";

const clock = new VirtualClock();
const arm = (text: string): ReturnType<typeof failpointsFrom> =>
  failpointsFrom({ PITWALL_FAILPOINTS: text, PITWALL_ALLOW_FAILPOINTS: "1" }, silentLog, clock);

test("nothing is armed unless the environment says so", () => {
  expect(failpointsFrom({}, silentLog)).toBe(noFailpoints);
});

test("arming without permission is refused", () => {
  expect(() => failpointsFrom({ PITWALL_FAILPOINTS: "create.vmm.spawned=exit" }, silentLog)).toThrow(
    "allow it in a test with PITWALL_ALLOW_FAILPOINTS=1",
  );
});

test.each([
  ["create.vmm.spawned", "is not NAME=ACTION"],
  ["create.vmm.spawned=explode", "is not NAME=ACTION"],
  ["create.vmm.spawned=sleep", "needs a duration, as in sleep:2s"],
  ["create.vmm.spawned=stop:soon", "needs a duration, as in stop:2s"],
  ["create.vmm.spawned=throw:2s", "takes no argument after throw"],
])("%s is refused", (text, why) => {
  expect(() => arm(text)).toThrow(why);
});

test("a place that is armed throws each time; a numbered one at that passing only; others pass", async () => {
  const failpoints = arm("a=throw,b#2=enospc");
  await expect(failpoints.at("a")).rejects.toThrow("the failpoint a threw");
  await expect(failpoints.at("a")).rejects.toThrow("the failpoint a threw");
  await failpoints.at("b");
  await expect(failpoints.at("b")).rejects.toMatchObject({ code: "ENOSPC" });
  await failpoints.at("b");
  await failpoints.at("c");
});

test("a message is lost or sent two times where that is armed", () => {
  const failpoints = arm("report=drop-send,beat#2=send-twice");
  expect([failpoints.sending("report"), failpoints.sending("beat"), failpoints.sending("beat"), failpoints.sending("beat")]).toEqual([
    "never",
    "once",
    "twice",
    "once",
  ]);
});

test("a place waits", async () => {
  let passed = false;
  void arm("a=sleep:300ms")
    .at("a")
    .then(() => (passed = true));
  await clock.advance(299);
  expect(passed).toBe(false);
  await clock.advance(1);
  expect(passed).toBe(true);
});
