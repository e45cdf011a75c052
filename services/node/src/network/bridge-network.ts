// The network of a node's VMs on its bridge: a TAP for each VM that runs, with its addresses in the firewall before it is up and until after it is gone.
//
//   (none) -> joined (rules, then TAP) -> (none) (TAP, then rules)
//
// Which TAPs there are is the kernel's knowledge, not this process's: after a crash each is known again by what is written on it, and those
// that no VM of the journals claims are taken away. Changes that come together are made together.
import { PitwallError, systemClock, type Log } from "@pitwall/runtime";
import { bridgeName, isTapName, namesOf, type Subnet, type VmPort } from "./address-plan.ts";
import { applyRules, forgetFlows, readAddresses4, readChains, readLinks, runLines, type HostLink } from "./commands.ts";
import { layGround, portsOf, type NetworkSettings } from "./ground.ts";
import { noTapLines, tapLines } from "./links.ts";
import { joinScript, leaveScript, missingChains, wholeScript } from "./rules.ts";

/** Whoever flushes all rules of the host flushes ours. */
const lookMs = 5_000;
/** In one transaction. */
const maxTogether = 256;

interface Change {
  readonly kind: "join" | "leave";
  readonly port: VmPort;
  readonly done: PromiseWithResolvers<void>;
}

/** Disposing it leaves all as it is: VMs run on. */
export interface BridgeNetwork extends AsyncDisposable {
  readonly subnet: Subnet;
  readonly mtu: number;
  /** Resolves when the VM's TAP is there and up. Repeatable. */
  join(port: VmPort): Promise<void>;
  /** Of whichever placement. Resolves when nothing is left of it. Repeatable. */
  leave(vmId: string): Promise<void>;
  /** Takes away what belongs to none of these VMs. */
  keepOnly(vmIds: ReadonlySet<string>): Promise<void>;
}

export async function openBridgeNetwork(settings: NetworkSettings, log: Log): Promise<BridgeNetwork> {
  const { subnet } = settings;
  const { mtu, changes } = await layGround(settings);
  for (const what of changes) log.info("the host's network was changed", { what });
  const ports = new Map(portsOf(await readLinks()).map((port) => [port.vmId, port]));
  let waiting: Change[] = [];
  let working: Promise<void> | undefined;
  const looking = new AbortController();
  const watching = look();

  function change(kind: Change["kind"], port: VmPort): Promise<void> {
    const done = Promise.withResolvers<void>();
    waiting.push({ kind, port, done });
    working ??= work();
    return done.promise;
  }

  async function work(): Promise<void> {
    await Promise.resolve(); // what comes together is made together, and the end below comes after the assignment
    while (waiting.length > 0) {
      const batch = waiting.slice(0, maxTogether);
      waiting = waiting.slice(maxTogether);
      try {
        await make(batch);
        for (const { done } of batch) done.resolve();
      } catch (error) {
        // One that cannot be made must not keep the others from theirs.
        const [only, ...others] = batch;
        if (only && others.length === 0) only.done.reject(error);
        else for (const one of batch) await make([one]).then(one.done.resolve, one.done.reject);
      }
    }
    working = undefined; // at once, or a change that comes now would find nobody at work
  }

  async function make(batch: readonly Change[]): Promise<void> {
    const joins = batch.filter(({ kind }) => kind === "join").map(({ port }) => port);
    const leaves = batch.filter(({ kind }) => kind === "leave").map(({ port }) => port);
    const taps = joins.map((port) => tapLines(subnet, port, mtu));
    if (joins.length > 0) await admit(joins);
    const complaints = [
      await runLines("ip", [...leaves.flatMap((port) => noTapLines(subnet, port)), ...taps.flatMap(({ ip }) => ip)]),
      await runLines(
        "bridge",
        taps.flatMap(({ bridge }) => bridge),
      ),
    ];
    const links = new Map((await readLinks()).map((link) => [link.ifname, link]));
    const bad = [
      ...joins.filter((port) => !isJoined(links.get(namesOf(subnet, port).tap), mtu)),
      ...leaves.filter((port) => links.has(namesOf(subnet, port).tap)),
    ];
    if (bad.length > 0) {
      throw new PitwallError("unavailable", `the host's network could not be changed: ${complaints.join("\n").trim().slice(0, 500)}`, {
        reason: "NETWORK_NOT_CHANGED",
      });
    }
    if (leaves.length === 0) return;
    await applyRules(leaves.map((port) => leaveScript(subnet, port)).join("\n"));
    await Promise.all(leaves.flatMap((port) => [port.address, namesOf(subnet, port).address6].map(forgetFlows)));
  }

  /** Where the tables have gone, all of them are made again. */
  async function admit(joins: readonly VmPort[]): Promise<void> {
    try {
      await applyRules(joins.map((port) => joinScript(subnet, port)).join("\n"));
    } catch (error) {
      log.warn("the firewall is not as it was left: it is made anew", { error });
      await applyRules(wholeScript(settings, [...new Map([...ports.values(), ...joins].map((port) => [port.vmId, port])).values()]));
    }
  }

  async function look(): Promise<void> {
    while (!looking.signal.aborted) {
      try {
        await systemClock.sleep(lookMs, looking.signal);
        const there = new Set(await readAddresses4());
        const isKnown = [...ports.values()].every((port) => there.has(`${namesOf(subnet, port).tap} ${port.address}`));
        if (working || (isKnown && missingChains(await readChains()).length === 0)) continue;
        log.warn("somebody has changed the firewall of VMs: it is made anew");
        await applyRules(wholeScript(settings, [...ports.values()]));
      } catch (error) {
        if (!looking.signal.aborted) log.error("the firewall of VMs could not be looked at", { error });
      }
    }
  }

  async function leave(vmId: string): Promise<void> {
    const port = ports.get(vmId);
    if (!port) return;
    await change("leave", port);
    if (ports.get(vmId) === port) ports.delete(vmId);
  }

  return {
    subnet,
    mtu,
    async join(port) {
      const known = ports.get(port.vmId);
      if (known && (known.epoch !== port.epoch || known.address !== port.address)) await leave(port.vmId);
      ports.set(port.vmId, port);
      await change("join", port);
    },
    leave,
    async keepOnly(vmIds) {
      const strays = [...ports.keys()].filter((vmId) => !vmIds.has(vmId));
      for (const vmId of strays) log.warn("a TAP is taken away that belongs to no VM", { vm: vmId });
      await Promise.all(strays.map(leave));
      const nameless = (await readLinks()).filter(
        ({ ifname, ifalias = "", master }) => isTapName(ifname) && !ifalias.startsWith("pitwall/") && (master ?? bridgeName) === bridgeName,
      );
      await runLines(
        "ip",
        nameless.map(({ ifname }) => `link delete dev ${ifname}`),
      ); // cut off between its making and its naming
    },
    async [Symbol.asyncDispose]() {
      looking.abort();
      await watching;
      await working;
    },
  };
}

function isJoined(link: HostLink | undefined, mtu: number): boolean {
  const port = link?.linkinfo?.info_slave_data;
  const isOnBridge = link?.master === bridgeName && link.mtu === mtu && link.flags.includes("UP");
  return isOnBridge && port?.isolated === true && port.learning === false && port.flood === false;
}
