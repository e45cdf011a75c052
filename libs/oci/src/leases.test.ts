import fc from "fast-check";
import { expect, test } from "vitest";
import { Leases } from "./leases.ts";

test("what is leased twice is removed after both", async () => {
  const leases = new Leases();
  const [one, two] = [leases.take("a"), leases.take("a")];
  one[Symbol.dispose]();
  one[Symbol.dispose]();
  expect(await leases.removeUnlessHeld("a", async () => expect.fail())).toBe(false);
  two[Symbol.dispose]();
  expect(await leases.removeUnlessHeld("a", async () => undefined)).toBe(true);
});

test("a removal that fails keeps nobody waiting", async () => {
  const leases = new Leases();
  const failing = leases.removeUnlessHeld("a", () => Promise.reject(new Error("disk")));
  using _ = leases.take("a");
  await leases.settled("a");
  await expect(failing).rejects.toThrow("disk");
});

test("in any order of steps, nothing is gone while somebody uses it", async () => {
  await fc.assert(
    fc.asyncProperty(fc.scheduler(), fc.array(fc.constantFrom("use", "collect"), { minLength: 2, maxLength: 12 }), async (s, deeds) => {
      const leases = new Leases();
      let exists = false;
      const step = (): Promise<void> => s.schedule(Promise.resolve());
      const use = async (): Promise<void> => {
        await step();
        using _ = leases.take("a");
        await leases.settled("a");
        if (!exists) await step();
        exists = true;
        for (let look = 0; look < 3; look++) {
          await step();
          expect(exists).toBe(true);
        }
      };
      const collect = async (): Promise<void> => {
        await step();
        await leases.removeUnlessHeld("a", async () => {
          await step();
          exists = false;
          await step();
        });
      };
      const all = Promise.all(deeds.map((deed) => (deed === "use" ? use() : collect())));
      await s.waitFor(all);
    }),
    { numRuns: 500 },
  );
});
