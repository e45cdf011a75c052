// VMs on a node's own network, through the public doors: what they have there, in every state, and that nothing is left of it.
import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import { expect, test } from "vitest";
import { startTestStack } from "./support/stack.ts";

const run = promisify(execFile);
const limitMs = 290_000;

async function obstacle(): Promise<string> {
  if (process.getuid?.() !== 0) return "it needs root";
  const probe = "ip link add pwbr0 type bridge && ip tuntap add dev pw0 mode tap && nft add table bridge x && nft add table inet x";
  return run("unshare", ["-n", "sh", "-c", probe]).then(
    () => "",
    (error: unknown) => `bridges, TAPs and nftables cannot be made in a network namespace here: ${String(error).split("\n")[1] ?? ""}`,
  );
}

test(
  "a VM has its addresses inside and out while it runs, none while it sleeps, and the same again when it wakes",
  { timeout: limitMs + 10_000 },
  async ({ skip }) => {
    const why = await obstacle();
    if (why !== "") {
      process.stdout.write(`NOT RUN: VMs on a node's own network (${why})\n`);
      skip(why);
    }
    await (await startTestStack())[Symbol.asyncDispose](); // what must be fetched is fetched here: from where it runs there is no way out
    const { stdout } = await run("unshare", ["-n", process.execPath, join(import.meta.dirname, "network", "whole.ts")], {
      timeout: limitMs,
    });
    const seen: unknown = JSON.parse(stdout.trim().split("\n").at(-1) ?? "");
    expect(seen).toEqual({
      addresses: ["172.30.0.2", "fdab:eec3:4a0d::ac1e:2"],
      resolvers: "nameserver 198.51.100.53",
      mac: "02:00:ac:1e:00:02",
      mtu: "1500",
      routes: "default via 172.30.0.1 dev eth0 \ndefault via fdab:eec3:4a0d::ac1e:1 dev eth0 metric 1 pref medium",
      gateway: "02:00:ac:1e:00:01",
      denied: ["10.1.2.3 udp/9 1 its node", "203.0.113.7 udp/53 1 its rules", "DESTINATION PORT PACKETS BY"],
      isFree: true,
      asleep: [],
      isSameAwake: true,
      gatewayAwake: "02:00:ac:1e:00:01",
      left: [],
    });
  },
);
