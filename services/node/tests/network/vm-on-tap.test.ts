// A real VM on the host's network, from its start to its removal, over a restart of the agent; vm-scenario.ts does it.
import { expect, test } from "vitest";
import { z } from "zod";
import { openVmMakings } from "../support/vm-makings.ts";
import { obstacle, play } from "./here.ts";

const limitMs = 300_000;
const words = z.array(z.string());
const seen = z.object({
  answers: words,
  taps: words,
  expectedTap: z.string(),
  wrongAddress: words,
  rules: words,
  isSameProcess: z.boolean(),
  rulesInNextLife: words,
  tapsOfNextLife: words,
  answersInNextLife: words,
  leftWhenStopped: words,
  answersElsewhere: words,
  left: words,
});

test(
  "a VM has its address on its TAP while it runs, whatever becomes of the agent, and leaves nothing",
  { timeout: limitMs },
  async ({ skip }) => {
    const why = await obstacle();
    if (why !== "") {
      process.stdout.write(`NOT RUN: a VM on the network of a node (${why})\n`);
      skip(why);
    }
    await (await openVmMakings())[Symbol.asyncDispose](); // what must be fetched is fetched here: from where it runs there is no way out
    const found = await play("vm-scenario.ts", seen, limitMs);
    expect(found).toEqual({
      answers: ["IPv4", "IPv6"],
      taps: [found.expectedTap],
      expectedTap: found.expectedTap,
      wrongAddress: ["NO_ADDRESS"],
      rules: ["out 1", "back 1"],
      isSameProcess: true,
      rulesInNextLife: ["out 1", "back 1"],
      tapsOfNextLife: [found.expectedTap],
      answersInNextLife: ["IPv4", "IPv6"],
      leftWhenStopped: [],
      answersElsewhere: ["IPv4", "IPv6"],
      left: [],
    });
  },
);
