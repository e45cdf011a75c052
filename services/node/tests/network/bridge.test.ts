// The bridge, its TAPs and its firewall as the kernel has them, seen from inside a VM with raw sockets and from outside; scenario.ts does it.
import { execFile } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { expect, test } from "vitest";
import { z } from "zod";

const run = promisify(execFile);
const limitMs = 170_000;

const seen = z.object({
  mtu: z.number(),
  spoofsSent: z.number(),
  spoofsPassed: z.array(z.string()),
  neighbourKnocks: z.number(),
  neighbourSaw: z.number(),
  arpAnswers: z.number(),
  neighbourAnswers: z.number(),
  echoesFrom: z.array(z.string()),
  seenAs: z.array(z.string()),
  closed: z.array(z.string()),
  open: z.array(z.string()),
  reached: z.record(z.string(), z.number()),
  resolverPorts: z.array(z.number()),
  hostAnswers: z.number(),
  fromOutside: z.number(),
  missingAfterFlush: z.array(z.string()),
  knownAfterFlush: z.number(),
  keptOverRestart: z.boolean(),
  straysLeft: z.array(z.boolean()),
  ownTap: z.string(),
  knownAfterRestart: z.array(z.string()),
  movedTap: z.string(),
  knownAfterMove: z.array(z.string()),
  joinOf100Ms: z.number(),
  leftBehind: z.array(z.string()),
  changesOfSecondSetup: z.array(z.string()),
  isAsBefore: z.union([z.literal(true), z.object({ before: z.string(), after: z.string() })]),
  changesOfSecondReset: z.array(z.string()),
});

/** Empty: it can be made here. */
async function obstacle(): Promise<string> {
  if (process.getuid?.() !== 0) return "it needs root";
  const probe =
    "ip link add pwbr0 type bridge && ip tuntap add dev pw0 mode tap && nft add table bridge x && nft add table inet x && perl -e 1";
  return run("unshare", ["-n", "sh", "-c", probe], { env: { PATH: `${process.env["PATH"]}:/usr/sbin:/sbin` } }).then(
    () => "",
    (error: unknown) => `bridges, TAPs and nftables cannot be made in a network namespace here: ${String(error).split("\n")[1] ?? ""}`,
  );
}

test(
  "of a VM's frames only those of its own address get out, to where it may, and nothing is left of it",
  { timeout: limitMs },
  async ({ skip }) => {
    const why = await obstacle();
    if (why !== "") {
      process.stdout.write(`NOT RUN: the network of a node (${why})\n`);
      skip(why);
    }
    const dir = await mkdtemp(join(tmpdir(), "pitwall-network-"));
    try {
      const { stdout } = await run("unshare", ["-n", process.execPath, join(import.meta.dirname, "scenario.ts"), join(dir, "state")], {
        timeout: limitMs,
      });
      const found = seen.parse(JSON.parse(stdout.trim().split("\n").at(-1) ?? ""));
      expect(found.mtu).toBe(1400); // the uplink's
      expect({ sent: found.spoofsSent, passed: found.spoofsPassed }).toEqual({ sent: 25, passed: [] });
      expect({ knocks: found.neighbourKnocks, seen: found.neighbourSaw }).toEqual({ knocks: 12, seen: 0 });
      expect({ arp: found.arpAnswers, neighbour: found.neighbourAnswers }).toEqual({ arp: 1, neighbour: 1 });
      expect(found.echoesFrom).toEqual(["172.30.0.1", "203.0.113.7"]);
      expect(found.seenAs).toEqual(["198.51.100.2"]);
      expect(found.closed.length + found.open.length).toBeGreaterThanOrEqual(40);
      expect(found.reached).toEqual(Object.fromEntries(found.open.map((address) => [address, 3])));
      expect(found.resolverPorts).toEqual([53]);
      expect({ host: found.hostAnswers, outside: found.fromOutside }).toEqual({ host: 0, outside: 0 });
      expect({ missing: found.missingAfterFlush, known: found.knownAfterFlush }).toEqual({ missing: [], known: 2 });
      expect({ kept: found.keptOverRestart, strays: found.straysLeft }).toEqual({ kept: true, strays: [false, false] });
      expect(found.knownAfterRestart).toEqual([found.ownTap]);
      expect(found.knownAfterMove).toEqual([found.movedTap]);
      expect(found.joinOf100Ms).toBeLessThan(10_000); // what it costs when nobody else works is the bench's to say
      expect(found.leftBehind).toEqual([]);
      expect([found.changesOfSecondSetup, found.isAsBefore, found.changesOfSecondReset]).toEqual([[], true, []]);
    } finally {
      await rm(dir, { recursive: true, force: true });
    }
  },
);
