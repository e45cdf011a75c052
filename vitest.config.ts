// Two tiers: `unit` is pure and fast (npm run check); `integration` starts real parts (npm test).
import { defineConfig } from "vitest/config";

/** Without a word in the environment they do nothing. */
const setupFiles = ["faults/planted/arm.ts"];

export default defineConfig({
  test: {
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
          testTimeout: 60_000,
          hookTimeout: 60_000,
          setupFiles,
        },
      },
      {
        test: {
          name: "e2e",
          include: ["tests/**/*.test.ts"],
          maxConcurrency: 3,
          testTimeout: 180_000,
          hookTimeout: 300_000,
          fileParallelism: false,
          setupFiles,
        },
      },
    ],
  },
});
