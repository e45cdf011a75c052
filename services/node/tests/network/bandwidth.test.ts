// How much VMs may send and be sent, by what comes through; bandwidth-scenario.ts does it.
import { expect, test } from "vitest";
import { z } from "zod";
import { obstacle, play } from "./here.ts";

const limitMs = 240_000;
const passed = z.object({ came: z.number(), inS: z.number() });
type Passed = z.infer<typeof passed>;
const seen = z.object({
  out: passed,
  back: passed,
  outFreed: passed,
  backFreed: passed,
  heeds: z.array(z.boolean()),
  outAgain: passed,
  outInNextLife: passed,
  outOfNeighbour: passed,
  left: z.array(z.string()),
});

/** Packets of 1,228 bytes: what may come at once at 64 kbit/s, 256 KiB, and what each second adds. */
const most = ({ inS }: Passed): number => Math.ceil((262_144 + 8_000 * (inS + 1)) / 1_228);
const least = 100;

test(
  "a VM sends and is sent no more than its limit, both ways, as soon as it is said and as long",
  { timeout: limitMs },
  async ({ skip }) => {
    const why = await obstacle();
    if (why !== "") {
      process.stdout.write(`NOT RUN: the bandwidth of VMs (${why})\n`);
      skip(why);
    }
    const found = await play("bandwidth-scenario.ts", seen, limitMs);
    for (const [which, one] of Object.entries({ out: found.out, back: found.back, next: found.outInNextLife, again: found.outAgain })) {
      expect(one.came, which).toBeGreaterThanOrEqual(least);
      expect(one.came, which).toBeLessThanOrEqual(most(one));
      expect(most(one), `${which} in time`).toBeLessThan(600); // or the limit would have been no limit
    }
    for (const one of [found.outFreed, found.backFreed, found.outOfNeighbour]) expect(one.came).toBeGreaterThan(400);
    expect(found.heeds).toEqual([true, false]);
    expect(found.left).toEqual([]);
  },
);
