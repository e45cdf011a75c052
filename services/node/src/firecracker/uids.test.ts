import { expect, it } from "vitest";
import { settings } from "./cgroup.ts";
import { checkRange } from "./uids.ts";

const range = { first: 1_000_000, count: 100 };

it.each([
  ["an account", ["vm:x:1000050:1000050::/:/bin/sh"], []],
  ["a group", ["kvm:x:1000099:"], []],
  ["subordinate ids that begin in it", [], ["me:1000099:65536"]],
  ["subordinate ids that end in it", [], ["me:934465:65536"]],
  ["subordinate ids around it", [], ["me:900000:1000000"]],
])("a range that has %s is refused", (_, accounts, delegated) => {
  expect(() => checkRange(range, accounts, delegated)).toThrow("are not free on this host");
});

it("a range that nobody has is taken, whatever else is in those files", () => {
  checkRange(
    range,
    ["root:x:0:0::/root:/bin/sh\n\nnext:x:1000100:1000100::/:/bin/sh\n+\n"],
    ["me:934464:65536\n# me:1000000:1\nyou:1000100:65536"],
  );
});

it("a VMM's cgroup gives it its guest's memory and a little more, its CPUs, few threads and no swap", () => {
  expect(settings({ vcpus: 2, memBytes: 256 * 2 ** 20 })).toEqual({
    "cpu.max": "200000 100000",
    "cpu.weight": "200",
    "memory.max": String(320 * 2 ** 20),
    "memory.swap.max": "0",
    "memory.oom.group": "1",
    "pids.max": "10",
  });
});
