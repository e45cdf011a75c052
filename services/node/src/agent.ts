// The node agent: what it is made of is given, so that many can run in one process, on a virtual clock, with nothing real below them.
import type { Hello, ImageAnswer, ImageCommand } from "@pitwall/proto/pitwall/v1/link.ts";
import type { Driver, Resources } from "@pitwall/proto/pitwall/v1/node.ts";
import type { DialLink } from "./link/dial.ts";
import { leaseClockMs, openLease } from "./link/lease.ts";
import { openLink, type Link, type LinkHandlers } from "./link/link.ts";
import type { Fence, MachineHost } from "./machine/host.ts";
import { watchClock } from "./machine/clock-watch.ts";
import { answerNetwork } from "./machine/network-answers.ts";
import { openMachines, type Machines } from "./machine/machines.ts";

const agentVersion = "0.1.0";
/** docs/link.md */
const capability = 11;

/** The fence as the agent sees it; a machine's part of it, and the deadline. */
export interface AgentFence extends Pick<Fence, "guard" | "release"> {
  /** What the fence was last told, by this agent or the one before; on the clock's boot reading. 0: nothing. */
  readonly deadlineMs: number;
  renew(deadlineMs: number): void;
}

export interface AgentParts extends Omit<MachineHost, "onReport" | "fence"> {
  readonly dial: DialLink;
  readonly fence: AgentFence;
  readonly capacity: Resources;
  /** What is free, as the node measures it. */
  available(): Promise<Resources>;
  readonly labels: Hello["labels"];
  /** Tells it from agents with a copy of its identity; undefined: there are none. */
  readonly host?: string;
  /** As a probe proved it. */
  readonly probed: Pick<Driver, "version" | "acceleration">;
  openTunnels(machines: Machines): { readonly open: LinkHandlers["onTunnel"]; close(): void };
  /** Never rejects. */
  answerImages(command: ImageCommand, signal: AbortSignal): Promise<ImageAnswer>;
  /** Digests of all that VMs can boot from without a pull; undefined: it is not said. */
  readonly heldImages?: LinkHandlers["heldImages"];
}

export interface Agent extends AsyncDisposable {
  /** Whether a controller has acknowledged a heartbeat, not too long ago. */
  isLeaseHeld(): boolean;
  vmCount(): number;
}

/** Adopts what an earlier run left, then keeps a link. Disposing it lets go of the VMs, which run on, and says goodbye. */
export async function startAgent(parts: AgentParts): Promise<Agent> {
  const { clock, failpoints, fence, log, capacity } = parts;
  await using stack = new AsyncDisposableStack();
  await failpoints.at("rejoin.agent.start");
  let link: Link | undefined;
  let isLeaseHeld = (): boolean => leaseClockMs(clock) < fence.deadlineMs;
  const machines = await openMachines({
    ...parts,
    fence: { isLeaseHeld: () => isLeaseHeld(), guard: fence.guard, release: fence.release },
    onReport: (report) => link?.report(report),
  });
  stack.defer(() => machines.close());
  const looking = new AbortController();
  stack.defer(() => looking.abort());
  void watchClock(clock, () => void machines.setTime(), looking.signal);
  const lease = stack.use(
    openLease({
      ...{ clock, failpoints, fence, log },
      async onLost(wasHeld) {
        await machines.yieldUp();
        if (wasHeld) link?.startAnew("the lease is lost"); // what was ended runs again only if the controller still wants it here
      },
    }),
  );
  isLeaseHeld = lease.isHeld;
  const tunnels = parts.openTunnels(machines);
  stack.defer(() => tunnels.close());
  link = openLink(
    { dial: parts.dial, lease, clock, random: parts.random, failpoints, log },
    {
      hello: () => ({
        agentVersion,
        capability,
        capacity,
        drivers: [{ name: parts.driver.name, ...parts.probed }],
        labels: parts.labels,
        subnet: parts.network?.subnet,
        host: parts.host,
        inventory: machines.inventory(),
      }),
      available: () => parts.available(),
      onAssignments: (assignments) => machines.apply(assignments),
      onTunnel: tunnels.open,
      onImageCommand: (command, signal) => parts.answerImages(command, signal),
      ...(parts.heldImages && { heldImages: parts.heldImages }),
      onNetworkCommand: (command) => answerNetwork(parts.network, command),
    },
  );
  stack.use(link);
  const owned = stack.move();
  return {
    isLeaseHeld: () => lease.isHeld(),
    vmCount: () => machines.inventory().vms.length,
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}
