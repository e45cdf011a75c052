// VMs' own rules for what they send, as the kernel has them, seen from inside VMs and from outside; egress-scenario.ts does it.
import { expect, test } from "vitest";
import { z } from "zod";
import { obstacle, play } from "./here.ts";

const limitMs = 170_000;
const ports = z.array(z.number());

const seen = z.object({
  free: z.array(z.string()),
  ruled: z.array(z.string()),
  byNetwork: ports,
  refusedByNode: ports,
  denied: z.array(z.string()),
  isLastSeenLast: z.boolean(),
  many: z.object({ listed: z.number(), rest: z.number(), few: z.array(z.string()) }),
  keptOverRestart: z.boolean(),
  cutOff: z.object({ before: z.boolean(), out: z.boolean(), back: z.boolean(), again: z.boolean() }),
  upBeforeRules: z.number(),
  changedWhile: z.object({ changes: z.number(), sent: z.number(), passed: z.number() }),
  restarted: z.object({ ruled: ports, stray: ports, changesWhileDown: ports }),
  mended: z.object({ flushedChain: ports, wasFlushed: z.boolean() }),
  addressTaken: z.string(),
  unknownRule: ports,
  left: z.array(z.string()),
  isOthersUntouched: z.boolean(),
});

test(
  "what a VM's rules do not allow does not pass, at no moment, and a change is one for what is open",
  { timeout: limitMs },
  async ({ skip }) => {
    const why = await obstacle();
    if (why !== "") {
      process.stdout.write(`NOT RUN: rules of VMs for what they send (${why})\n`);
      skip(why);
    }
    const found = await play("egress-scenario.ts", seen, limitMs);
    const everything = ["icmp 0", "tcp 80", "tcp 443", "udp 443", "udp 5000"];
    expect(found.free).toEqual(everything);
    expect(found.ruled).toEqual(["icmp 0", "tcp 443"]);
    expect(found.byNetwork).toEqual([7002, 7003]);
    expect(found.refusedByNode).toEqual([]);
    expect(found.denied.toSorted()).toEqual([
      "10.78.0.1 udp 7004 1 node",
      "203.0.113.7 tcp 80 1 rules",
      "203.0.113.7 udp 443 1 rules",
      "203.0.113.7 udp 5000 1 rules",
      "203.0.113.7 udp 6999 1 rules",
      "203.0.113.7 udp 7001 1 rules",
      "203.0.113.7 udp 7010 1 rules",
    ]);
    expect([found.isLastSeenLast, found.keptOverRestart]).toEqual([true, true]);
    // 64 at once, and what a minute adds.
    expect(found.many.listed).toBeGreaterThanOrEqual(64);
    expect(found.many.listed).toBeLessThan(70);
    expect(found.many.listed + found.many.rest).toBe(307);
    expect(found.many.few).toEqual(["10.78.0.3 udp 20000 1 node"]);
    expect(found.cutOff).toEqual({ before: true, out: false, back: false, again: true });
    expect(found.upBeforeRules).toBe(0);
    expect(found.changedWhile.changes).toBeGreaterThanOrEqual(20);
    expect(found.changedWhile.sent).toBeGreaterThan(100);
    expect(found.changedWhile.passed).toBe(0);
    expect(found.restarted).toEqual({ ruled: [7102], stray: [], changesWhileDown: [] });
    expect(found.mended).toEqual({ flushedChain: [], wasFlushed: true });
    expect(found.addressTaken).toBe("ADDRESS_TAKEN");
    expect(found.unknownRule).toEqual([]);
    expect({ left: found.left, others: found.isOthersUntouched }).toEqual({ left: [], others: true });
  },
);
