// Directed runs: one failpoint in one real process does one thing to it, under the traffic that passes there. Which runs there are, by name.
import { failpointList, isFailpoint, seededRandom, type FailpointName, type FailpointOwner } from "@pitwall/runtime";

const prefix = "directed/";

export const directedActions = ["exit", "stop", "throw", "enospc"] as const;
export type DirectedAction = (typeof directedActions)[number];

export interface DirectedRun {
  readonly point: FailpointName;
  readonly owner: FailpointOwner;
  readonly action: DirectedAction;
}

const needsGuest = "no simulated VM boots powerunit: services/node/tests/guest-failpoints.test.ts has them";
const needsJail = "no simulated VM is jailed: services/node/tests/firecracker-crash.test.ts has them";
const needsSuspension = "nobody suspends VMs in this layer: services/node/tests/failpoints.test.ts has them";
const needsBridge = "nodes have no bridge in this layer: services/node/tests/network/failpoints.test.ts has them";
const needsSsh = "no simulated VM has an SSH server";

/** Places that no real process of this layer passes, and why. docs/faults.md says the same. */
export const notDirected: Partial<Readonly<Record<FailpointName, string>>> = {
  "jail.leased": needsJail,
  "jail.made": needsJail,
  "jail.confined": needsJail,
  "jail.empty": needsJail,
  "jail.gone": needsJail,
  "net.rules": needsBridge,
  "net.tap": needsBridge,
  "net.tap.gone": needsBridge,
  "net.rules.gone": needsBridge,
  "guest.hostkey": needsGuest,
  "guest.mount": needsGuest,
  "guest.net": needsGuest,
  "guest.reap": needsGuest,
  "guest.ssh.listen": needsGuest,
  "guest.report": needsGuest,
  "ssh.vm.connected": needsSsh,
  "suspend.memory.kept": needsSuspension,
  "suspend.node.journalled": needsSuspension,
  "wake.memory.gone": needsSuspension,
  "ssh.session.joined": needsSsh,
};

/** All of them, as seeds, in the list's order: `directed/NAME=ACTION`. */
export function directedSeeds(): string[] {
  const names = Object.keys(failpointList).filter(isFailpoint);
  return names
    .filter((name) => notDirected[name] === undefined)
    .flatMap((name) =>
      directedActions.filter((action) => action !== "enospc" || failpointList[name].writes).map((action) => `${prefix}${name}=${action}`),
    );
}

/** Those that `names`, each NAME or NAME=ACTION, ask for; `all` is all. Throws for what there is not, and says why. */
export function directedSeedsOf(names: readonly string[]): string[] {
  const all = directedSeeds();
  if (names.length === 1 && names[0] === "all") return all;
  return names.flatMap((name) => {
    const found = all.filter((seed) => seed === `${prefix}${name}` || seed.startsWith(`${prefix}${name}=`));
    if (found.length > 0) return found;
    const why = isFailpoint(name) ? notDirected[name] : undefined;
    throw new Error(`--directed: there is no directed run ${name}${why === undefined ? "" : `: ${why}`}`);
  });
}

/** `count` of all, drawn by `seed`. */
export function someDirectedSeeds(count: number, seed: string): string[] {
  const random = seededRandom(seed, "directed");
  return directedSeeds()
    .map((name) => ({ name, at: random() }))
    .toSorted((a, b) => a.at - b.at)
    .slice(0, count)
    .map(({ name }) => name);
}

/** Undefined: the seed is that of a schedule. */
export function directedRunOf(seed: string): DirectedRun | undefined {
  if (!seed.startsWith(prefix)) return undefined;
  const [point = "", action] = seed.slice(prefix.length).split("=");
  const known = directedActions.find((one) => one === action);
  if (!isFailpoint(point) || known === undefined) throw new Error(`${seed} is no directed run`);
  return { point, owner: failpointList[point].owner, action: known };
}
