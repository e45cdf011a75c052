// An agent's network that dies, or fails once, at each step of giving a VM its place on the bridge and of taking it away: its next life, or its next
// try, leaves no link, rule, route or neighbour of it, and takes nothing from another VM. failpoints-scenario.ts does it.
import { expect, test } from "vitest";
import { z } from "zod";
import { obstacle, play } from "./here.ts";

const limitMs = 240_000;
const passage = z.object({
  place: z.string(),
  action: z.string(),
  /** Of the life in which the place was struck. */
  code: z.number().nullable(),
  struck: z.string(),
  /** Lines that are there and were not before, and the other way. */
  left: z.array(z.string()),
  taken: z.array(z.string()),
});
const seen = z.object({ passages: z.array(passage), shared: z.array(z.string()), ofVm: z.number(), leftAtTheEnd: z.array(z.string()) });

test(
  "whatever step of the bridge's network is the last of an agent's life, or fails, nothing stays of the VM",
  { timeout: limitMs },
  async ({ skip }) => {
    const why = await obstacle();
    if (why !== "") {
      process.stdout.write(`NOT RUN: failures at each step of a VM's network (${why})\n`);
      skip(why);
    }
    const { passages, shared, ofVm, leftAtTheEnd } = await play("failpoints-scenario.ts", seen, limitMs);
    const places = ["net.rules", "net.tap", "net.tap.gone", "net.rules.gone"];
    expect(passages).toEqual(
      places.flatMap((place) => [
        { place, action: "exit", code: 137, struck: `${place} exit\n`, left: [], taken: [] },
        { place, action: "throw", code: 0, struck: `${place} throw\n`, left: [], taken: [] },
      ]),
    );
    expect(shared).toEqual([]);
    expect(ofVm).toBeGreaterThan(5); // what is looked for can be seen: its link, rules, neighbours and entry of the bridge
    expect(leftAtTheEnd).toEqual([]);
  },
);
