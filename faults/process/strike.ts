// Brings a fault about, and undoes it.
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { command } from "@pitwall/quickstart";
import { failpointList, systemClock } from "@pitwall/runtime";
import type { Installation } from "./installation.ts";
import * as network from "./network.ts";
import { nodeCount, type ProcessFault } from "./schedule.ts";
import type { Service } from "./service.ts";

const doubling = {
  PITWALL_ALLOW_FAILPOINTS: "1",
  PITWALL_FAILPOINTS: Object.entries(failpointList)
    .flatMap(([name, { kind }]) => (kind === "send" ? `${name}=send-twice` : []))
    .join(","),
};
const jumpSeconds = [-600, 600, -2, 2];

/** Breaks one thing, for as long as the fault says. Resolves when it is whole again. */
export async function strike(installation: Installation, fault: ProcessFault): Promise<void> {
  const { kind, victim, forMs } = fault;
  const { nodes, controllers, gateway, database, scanner } = installation;
  const peer = fault.controller === undefined ? undefined : network.controllerAddress(fault.controller);
  const during = async (made: Promise<network.Undo>): Promise<void> => {
    const undo = await made;
    await systemClock.sleep(forMs);
    await undo();
  };
  const clockOf = async (name: string): Promise<void> => {
    await installation.shiftClock(name, jumpSeconds[Math.floor(fault.atMs) % jumpSeconds.length] ?? 0);
    await systemClock.sleep(forMs);
    await installation.shiftClock(name, 0);
  };
  switch (kind) {
    case "agent-kill":
      return nodes[victim]?.kill(forMs);
    case "agent-stop":
      return nodes[victim]?.pause(forMs);
    case "agent-doubles":
      return double(nodes[victim], forMs);
    case "fence-kill":
      return signalAll(scanner.pids(victim, "fence"), "SIGKILL");
    case "fence-stop":
      return stopFor(scanner.pids(victim, "fence"), forMs);
    case "vmm-kill":
      return signalAll(scanner.pids(victim, "vmm").slice(0, 1), "SIGKILL");
    case "vmm-stop":
      return stopFor(scanner.pids(victim, "vmm").slice(0, 1), forMs);
    case "machine-loss":
      return loseMachine(installation, victim, forMs);
    case "disk-full":
      return during(fillDisk(installation, victim));
    case "node-partition":
      return during(network.block(victim, peer, ["up", "down"]));
    case "node-deaf":
      return during(network.block(victim, peer, ["down"]));
    case "node-mute":
      return during(network.block(victim, peer, ["up"]));
    case "node-reset":
      return during(network.reset(victim, peer));
    case "node-unplugged":
      return during(network.unplug(victim));
    case "node-loses-packets":
      return during(network.lose(victim));
    case "node-slow-line":
      return during(network.throttle(victim));
    case "node-clock-jump":
      return clockOf(`node-${victim}`);
    case "controller-kill":
      return controllers[victim]?.kill(forMs);
    case "controller-stop":
      return controllers[victim]?.pause(forMs);
    case "controller-doubles":
      return double(controllers[victim], forMs);
    case "controller-without-database":
      return during(network.blockDatabase(victim));
    case "controller-without-neighbours":
      return during(network.blockNeighbours(victim));
    case "controller-clock-jump":
      return clockOf(`controller-${victim}`);
    case "gateway-kill":
      return gateway.kill(Math.min(forMs, 2_000)); // nobody can ask for anything meanwhile
    case "gateway-stop":
      return gateway.pause(Math.min(forMs, 2_000));
    case "database-restart":
    case "database-crash":
      await database.stop(kind === "database-crash" ? "immediate" : "fast");
      await systemClock.sleep(Math.min(forMs, 2_000));
      return database.start();
    case "database-full": {
      await using _filled = await database.fill();
      return await systemClock.sleep(forMs);
    }
  }
}

/** Everything that was stopped or held up goes on; what was broken for a time has been undone by then. */
export function heal({ services, scanner }: Installation): void {
  for (const service of services) service.heal();
  for (let node = 0; node < nodeCount; node++) for (const kind of ["fence", "vmm"] as const) signalAll(scanner.pids(node, kind), "SIGCONT");
}

/** Killed, and started again so that it sends all that it sends on the link twice; then killed once more. */
async function double(service: Service | undefined, forMs: number): Promise<void> {
  void service?.restart(doubling); // another fault may keep it from being up: that is no part of this one
  await systemClock.sleep(forMs);
  void service?.restart();
}

async function stopFor(pids: readonly number[], forMs: number): Promise<void> {
  signalAll(pids, "SIGSTOP");
  await systemClock.sleep(forMs);
  signalAll(pids, "SIGCONT");
}

/** All processes of the host at once; its files are there again, its memory is not. */
async function loseMachine({ nodes, scanner }: Installation, victim: number, forMs: number): Promise<void> {
  nodes[victim]?.kill(forMs);
  const listed = await command("ip", ["netns", "pids", network.namespaceOf(victim)]);
  signalAll([...listed.split("\n").map(Number), ...scanner.pids(victim, "vmm"), ...scanner.pids(victim, "fence")], "SIGKILL");
}

async function fillDisk({ dir }: Installation, victim: number): Promise<network.Undo> {
  const file = join(dir, `node-${victim}`, "filler");
  // It stops where the disk ends.
  await command("sh", ["-c", 'cat /dev/zero >"$1"', "sh", file]).catch(() => undefined);
  return () => rm(file, { force: true });
}

/** A pid that is used again at once is not thought of: a world has few processes and many pids. */
export function signalAll(pids: readonly number[], signal: NodeJS.Signals): void {
  for (const pid of pids)
    if (pid > 1)
      try {
        process.kill(pid, signal);
      } catch {
        // it has gone
      }
}
