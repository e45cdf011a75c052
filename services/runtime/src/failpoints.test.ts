import { randomUUID } from "node:crypto";
import { existsSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
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
  ["create.vmm.spwaned=throw", "names no failpoint"],
  ["create.vmm.spawned=drop-send", "sends no message there"],
  ["lease.sent=sleep:1s", "cannot wait"],
])("%s is refused", (text, why) => {
  expect(() => arm(text)).toThrow(why);
});

test("a place that is armed throws each time; a numbered one at that passing only; others pass", async () => {
  const failpoints = arm("create.vmm.spawned=throw,create.disk.cloned#2=enospc");
  await expect(failpoints.at("create.vmm.spawned")).rejects.toThrow("the failpoint create.vmm.spawned threw");
  await expect(failpoints.at("create.vmm.spawned")).rejects.toThrow("the failpoint create.vmm.spawned threw");
  await failpoints.at("create.disk.cloned");
  await expect(failpoints.at("create.disk.cloned")).rejects.toMatchObject({ code: "ENOSPC" });
  await failpoints.at("create.disk.cloned");
  await failpoints.at("create.vmm.started");
});

test("a message is lost or sent two times where that is armed", () => {
  const failpoints = arm("create.node.reported=drop-send,lease.sent#2=send-twice");
  const sent = [failpoints.sending("create.node.reported"), ...Array.from({ length: 3 }, () => failpoints.sending("lease.sent"))];
  expect(sent).toEqual(["never", "once", "twice", "once"]);
});

test("each strike is told in a file, and nothing that is passed by", async () => {
  const file = join(tmpdir(), `pitwall-struck-${randomUUID()}`);
  onTestFinished(() => rmSync(file, { force: true }));
  const env = { PITWALL_FAILPOINTS: "create.vmm.spawned#2=throw,lease.sent=drop-send", PITWALL_ALLOW_FAILPOINTS: "1" };
  const failpoints = failpointsFrom({ ...env, PITWALL_FAILPOINTS_LOG: file }, silentLog, clock);
  await failpoints.at("create.vmm.spawned");
  await failpoints.at("create.disk.cloned");
  expect(existsSync(file)).toBe(false);
  await expect(failpoints.at("create.vmm.spawned")).rejects.toThrow("threw");
  failpoints.sending("lease.sent");
  expect(readFileSync(file, "utf8")).toBe("create.vmm.spawned throw\nlease.sent drop-send\n");
});

test("what sends a message throws, too", () => {
  expect(() => arm("outbox.sent=throw").sending("outbox.sent")).toThrow("the failpoint outbox.sent threw");
});

test("a place waits", async () => {
  let passed = false;
  void arm("create.vmm.spawned=sleep:300ms")
    .at("create.vmm.spawned")
    .then(() => (passed = true));
  await clock.advance(299);
  expect(passed).toBe(false);
  await clock.advance(1);
  expect(passed).toBe(true);
});
