import { expect, test } from "vitest";
import { silentLog } from "./log.ts";
import { plantFrom, planted, plantedBugs } from "./planted.ts";

test("no bug is there unless it is planted, with leave", () => {
  const there = (): string[] => plantedBugs.filter(planted);
  plantFrom({}, silentLog);
  expect(there()).toEqual([]);
  expect(() => plantFrom({ PITWALL_PLANTED: "no-fsync" }, silentLog)).toThrow("allow it in a test with PITWALL_ALLOW_FAILPOINTS=1");
  expect(() => plantFrom({ PITWALL_PLANTED: "no-sync", PITWALL_ALLOW_FAILPOINTS: "1" }, silentLog)).toThrow('there is no bug "no-sync"');
  expect(there()).toEqual([]);
});
