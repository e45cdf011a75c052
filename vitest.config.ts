// Tiers, one after the other: `unit` is pure and fast (npm run check); `integration` starts real parts; `campaigns` breaks whole
// installations, which shows nothing of the system while others keep the machine busy; `e2e` goes through the public doors (npm test), and
// so does `alone`, which looks at the whole machine or at time; `node-vm` starts emulated machines that play hosts.
import { defineConfig } from "vitest/config";

const alone = ["tests/{gateway-death,leaks,ssh-limits,start}.test.ts"];
const nodeVm = ["tests/node-vm/**/*.test.ts"];
const campaigns = ["faults/tests/{campaign,process}.test.ts"];
/** Without a word in the environment they do nothing. */
const setupFiles = ["faults/planted/arm.ts"];

export default defineConfig({
  test: {
    maxWorkers: 2, // also with two cores: much of what tests do is to wait
    projects: [
      {
        test: {
          name: "unit",
          isolate: false, // pure tests need no process of their own each
          include: [
            "{libs,services,clients}/*/src/**/*.test.ts",
            "quickstart/src/**/*.test.ts",
            "faults/{schedule,checkers,process}/**/*.test.ts",
            "*.test.ts",
          ],
          testTimeout: 5_000,
          setupFiles,
        },
      },
      {
        test: {
          name: "integration",
          include: ["{libs,services,clients}/*/tests/**/*.test.ts", "{quickstart,faults}/tests/**/*.test.ts"],
          exclude: campaigns,
          sequence: { groupOrder: 1 },
          maxWorkers: 3, // these wait for leases and back-offs, with little to do for a processor
          testTimeout: 60_000,
          hookTimeout: 60_000,
          setupFiles,
        },
      },
      {
        test: {
          name: "campaigns",
          include: campaigns,
          fileParallelism: false,
          sequence: { groupOrder: 2 },
          hookTimeout: 60_000,
          setupFiles,
        },
      },
      ...[
        { name: "e2e", include: ["tests/**/*.test.ts"], exclude: [...alone, ...nodeVm], sequence: { groupOrder: 3 } },
        { name: "alone", include: alone, fileParallelism: false, sequence: { groupOrder: 4 } },
        { name: "node-vm", include: nodeVm, fileParallelism: false, sequence: { groupOrder: 5 } },
      ].map((tier) => ({ test: { ...tier, maxConcurrency: 3, testTimeout: 180_000, hookTimeout: 300_000, setupFiles } })),
    ],
  },
});
