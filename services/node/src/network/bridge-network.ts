// The network of a node's VMs on its bridge: a TAP for each VM that runs, with its addresses in the firewall before it is up and until after it is gone.
//
//   (none) -> joined (rules, then TAP) -> (none) (TAP, then rules)
//
// Which TAPs there are is the kernel's knowledge, not this process's: after a crash each is known again by what is written on it, and those
// that no VM of the journals claims are taken away. Which rules a VM has of its own is the journals'. All changes go one after the other, those
// that come together made together.
import { noFailpoints, PitwallError, systemClock, type Failpoints, type Log } from "@pitwall/runtime";
import { bridgeName, isTapName, namesOf, type OwnRules, type Subnet, type VmPort } from "./address-plan.ts";
import { hasPace } from "./bandwidth.ts";
import { applyRules, forgetFlows, readAddresses4, readLinks, readRuleCounts, runLines, type HostLink } from "./commands.ts";
import { deniedOf, readDenied, type DeniedFlows } from "./denied.ts";
import { heedable } from "./egress.ts";
import { layGround, portsOf, type NetworkSettings, type VmRules } from "./ground.ts";
import { noTapLines, tapLines } from "./links.ts";
import { addressesOf, closedTo, joinScript, lackingChains, leaveScript, ruleCounts, wholeScript } from "./rules.ts";

/** Whoever flushes all rules of the host flushes ours. */
const lookMs = 5_000;
/** In one transaction. */
const maxTogether = 256;

interface PortChange {
  readonly kind: "join" | "leave" | "heed";
  readonly port: VmPort;
}

/** `look`: makes the firewall anew where somebody else has changed it. */
type Change = (PortChange | { readonly kind: "look" }) & { readonly done: PromiseWithResolvers<void> };

/** Disposing it leaves all as it is: VMs run on. */
export interface BridgeNetwork extends AsyncDisposable {
  readonly subnet: Subnet;
  readonly mtu: number;
  /** Resolves when the VM's TAP is there and up. Repeatable. Throws `unavailable` while another VM has its address. */
  join(port: VmPort): Promise<void>;
  /** Whether {@link heed} would change nothing. */
  heeds(vmId: string, own: OwnRules): boolean;
  /** Resolves when these are its rules. Repeatable; of a VM that has no TAP nothing. */
  heed(vmId: string, own: OwnRules): Promise<void>;
  /** Of whichever placement. Resolves when nothing is left of it. Repeatable. */
  leave(vmId: string): Promise<void>;
  /** What the firewall has denied the VM lately; of one that has no TAP nothing. */
  denied(vmId: string): Promise<DeniedFlows>;
  /** Takes away what belongs to none of these VMs. */
  keepOnly(vmIds: ReadonlySet<string>): Promise<void>;
}

export async function openBridgeNetwork(
  settings: NetworkSettings,
  vmRules: VmRules,
  log: Log,
  failpoints: Failpoints = noFailpoints,
): Promise<BridgeNetwork> {
  const { subnet } = settings;
  const { mtu, changes } = await layGround(settings, vmRules);
  for (const what of changes) log.info("the host's network was changed", { what });
  /** What is wished for. */
  const ports = new Map(portsOf(await readLinks(), vmRules).map((port) => [port.vmId, port]));
  /** What is in the firewall. */
  const laid = new Map(ports);
  /** VMs that have chains there, or may have. */
  const ruled = new Set([...ports.values()].filter(hasRules).map(({ vmId }) => vmId));
  const isClosed = closedTo(settings);
  let waiting: Change[] = [];
  let working: Promise<void> | undefined;
  const looking = new AbortController();
  const watching = look();

  function change(what: PortChange | { readonly kind: "look" }): Promise<void> {
    const done = Promise.withResolvers<void>();
    waiting.push({ ...what, done });
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
    const portsOfKind = (kind: PortChange["kind"]): VmPort[] => batch.flatMap((one) => (one.kind === kind ? [one.port] : []));
    const [joins, leaves, ruleChanges] = [portsOfKind("join"), portsOfKind("leave"), portsOfKind("heed")];
    if (batch.some(({ kind }) => kind === "look")) await mend();
    const taps = joins.map((port) => tapLines(subnet, port, mtu));
    if (joins.length + ruleChanges.length > 0) await admit([...joins, ...ruleChanges]);
    if (joins.length > 0) await failpoints.at("net.rules");
    if (joins.length + leaves.length === 0) return;
    const complaints = [await runLines("ip", [...leaves.flatMap((port) => noTapLines(subnet, port)), ...taps.flatMap(({ ip }) => ip)])];
    if (joins.length > 0) await failpoints.at("net.tap");
    const entries = taps.flatMap(({ bridge }) => bridge);
    complaints.push(await runLines("bridge", entries));
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
    await failpoints.at("net.tap.gone");
    const denied = await readDenied();
    await applyRules(leaves.map((port) => leaveScript(subnet, port, ruled.has(port.vmId), denied)).join("\n"));
    for (const { vmId } of leaves) {
      ruled.delete(vmId);
      laid.delete(vmId);
    }
    await failpoints.at("net.rules.gone");
    await Promise.all(leaves.flatMap((port) => [port.address, namesOf(subnet, port).address6].map(forgetFlows)));
  }

  /** Where the tables have gone, all of them are made again. */
  async function admit(admitted: readonly VmPort[]): Promise<void> {
    for (const port of admitted) if (hasRules(port)) ruled.add(port.vmId); // before it is so, for it may come to half of this
    try {
      await applyRules(admitted.map((port) => joinScript(subnet, port, ruled.has(port.vmId))).join("\n"));
    } catch (error) {
      log.warn("the firewall is not as it was left: it is made anew", { error });
      await layAnew([...new Map([...laid.values(), ...admitted].map((port) => [port.vmId, port])).values()]);
    }
    for (const port of admitted) {
      laid.set(port.vmId, port);
      if (!hasRules(port)) ruled.delete(port.vmId);
    }
  }

  async function layAnew(all: readonly VmPort[]): Promise<void> {
    await applyRules(wholeScript(settings, all, await readDenied()));
  }

  /** In the queue with the changes: what is being made is nobody else's doing. */
  async function mend(): Promise<void> {
    const script = wholeScript(settings, [...laid.values()]);
    const there = new Set(await readAddresses4());
    const isKnown = [...laid.values()].every((port) => there.has(`${namesOf(subnet, port).tap} ${port.address}`));
    const lacking = lackingChains(ruleCounts(script), await readRuleCounts());
    if (isKnown && lacking.length === 0) return;
    log.warn("somebody has changed the firewall of VMs: it is made anew", { lacking: lacking.join(", ") });
    await layAnew([...laid.values()]);
  }

  async function look(): Promise<void> {
    while (!looking.signal.aborted) {
      try {
        await systemClock.sleep(lookMs, looking.signal);
        await change({ kind: "look" });
      } catch (error) {
        if (!looking.signal.aborted) log.error("the firewall of VMs could not be looked at", { error });
      }
    }
  }

  async function leave(vmId: string): Promise<void> {
    const port = ports.get(vmId);
    if (!port) return;
    await change({ kind: "leave", port });
    if (ports.get(vmId) === port) ports.delete(vmId);
  }

  function heeds(vmId: string, own: OwnRules): boolean {
    const port = ports.get(vmId);
    return !port || wordOf(port) === wordOf(heedable(own));
  }

  return {
    subnet,
    mtu,
    async join(port) {
      const known = ports.get(port.vmId);
      if (known && (known.epoch !== port.epoch || known.address !== port.address)) await leave(port.vmId);
      const other = [...ports.values()].find(({ vmId, address }) => address === port.address && vmId !== port.vmId);
      if (other) throw addressTaken(port);
      ports.set(port.vmId, port);
      await change({ kind: "join", port });
    },
    heeds,
    async heed(vmId, own) {
      const before = ports.get(vmId);
      if (!before || heeds(vmId, own)) return;
      const port = { ...before, ...heedable(own) };
      ports.set(vmId, port);
      try {
        await change({ kind: "heed", port });
      } catch (error) {
        if (ports.get(vmId) === port) ports.set(vmId, before); // it is what the kernel still has
        throw error;
      }
    },
    leave,
    async denied(vmId) {
      const port = ports.get(vmId);
      return port ? deniedOf(addressesOf(subnet, port), isClosed, systemClock.wallMs()) : { flows: [], unlistedPackets: 0n };
    },
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

/** Whether it has chains of its own. */
function hasRules(own: OwnRules): boolean {
  return own.egress !== undefined || hasPace(own);
}

/** The same for the same rules. */
function wordOf({ egress, bandwidthInBps = 0n, bandwidthOutBps = 0n }: OwnRules): string {
  return JSON.stringify([egress ?? null, String(bandwidthInBps), String(bandwidthOutBps)]);
}

/** A node whose subnet was changed may be given one that a VM of the former subnet still has. */
function addressTaken({ address }: VmPort): PitwallError {
  const message = `another VM that runs here has the address ${address} of the node's former subnet: stop and start that one first`;
  return new PitwallError("unavailable", message, { reason: "ADDRESS_TAKEN" });
}

function isJoined(link: HostLink | undefined, mtu: number): boolean {
  const port = link?.linkinfo?.info_slave_data;
  const isOnBridge = link?.master === bridgeName && link.mtu === mtu && link.flags.includes("UP");
  return isOnBridge && port?.isolated === true && port.learning === false && port.flood === false;
}
