// A VM under QEMU on the bridge, run by the agent's own machines, in a network namespace of its own. Prints what was seen as a line of JSON.
// Run by vm-on-tap.test.ts: `unshare -n node vm-scenario.ts DIR`.
import { execFileSync } from "node:child_process";
import { Assignment, type VmReport } from "@pitwall/proto/pitwall/v1/link.ts";
import { Desired, Phase, VmSpec } from "@pitwall/proto/pitwall/v1/vm.ts";
import { openLog, systemClock } from "@pitwall/runtime";
import { noTimings } from "../../src/machine/reports.ts";
import { openMachines, type Machines } from "../../src/machine/machines.ts";
import { macOf, namesOf, parseSubnet } from "../../src/network/address-plan.ts";
import { readAddresses4, readLinks, readRuleCounts } from "../../src/network/commands.ts";
import { journalsIn, openJournalFiles } from "../../src/host/journal-files.ts";
import { denyAll } from "../../src/network/egress.ts";
import { openHostNetwork } from "../../src/network/host-network.ts";
import { openQemuDriver } from "../../src/qemu/driver.ts";
import { realHost } from "../support/real-host.ts";
import { openVmMakings } from "../support/vm-makings.ts";
import { echo4, ether, icmp6, ip4, ip6, packets4, Wire } from "./frames.ts";

const bootLimitMs = 120_000;
const answerLimitMs = 20_000;
const [dir = ""] = process.argv.slice(2);
const subnet = parseSubnet("172.30.0.0/16");
const log = openLog("network", "error");
execFileSync("ip", ["link", "set", "lo", "up"]);

await using makings = await openVmMakings();
const driver = openQemuDriver({ kernel: makings.kernel, cacheDir: makings.dir });
const reports: VmReport[] = [];
const result: Record<string, unknown> = {};

/** A life of the agent. */
async function live<T>(work: (machines: Machines) => Promise<T>): Promise<T> {
  const { entries } = await openJournalFiles(journalsIn(dir)).readAll();
  await using network = await openHostNetwork({ stateDir: dir, subnet, resolvers: [], allowed: [], denied: [] }, entries, log);
  const machines = await openMachines({
    ...realHost(dir),
    ...{ driver, network, kernel: makings.kernel, bootLimitMs },
    ingredients: {
      async prepare({ network: told }) {
        const { base, disk, initramfs } = await makings.makeSpec([], told);
        return { base, disk, initramfs, sshHostKey: "ssh-ed25519 AAAA", timings: noTimings };
      },
      discard: async () => undefined,
      lease: () => ({ [Symbol.dispose]: () => undefined }),
    },
    onReport: (report) => void reports.push(report),
  });
  try {
    return await work(machines);
  } finally {
    await machines.close();
  }
}

async function until(machines: Machines, vmId: string, phase: Phase): Promise<void> {
  while (reports.findLast((report) => report.vmId === vmId)?.phase !== phase) {
    const last = reports.findLast((report) => report.vmId === vmId);
    if (last?.phase === Phase.PHASE_FAILED) throw new Error(`${last.reason}: ${last.message}`);
    if (machines.inventory().vms.length === 0 && phase !== Phase.PHASE_GONE) throw new Error("the VM is gone");
    await systemClock.sleep(50);
  }
}

function assignment(address: string, more: Partial<Assignment> = {}): Assignment {
  const spec = VmSpec.fromPartial({ cpuMillis: 1000, memBytes: 128n * 2n ** 20n, diskBytes: 2n ** 26n });
  const wish = { vmId: crypto.randomUUID(), vmName: "vm", generation: 1n, epoch: 1n, desired: Desired.DESIRED_RUNNING };
  return Assignment.fromPartial({ ...wish, spec, address: { ipv4: address, ipv6: "" }, ...more });
}

/** What the guest's kernel answers to echo requests of the host, and from which MAC. */
async function answers(address: string): Promise<readonly string[]> {
  await using wire = await Wire.open("sniff", "pwbr0");
  const { mac, address6 } = namesOf(subnet, { vmId: "", epoch: 0n, address });
  const ends = { from: macOf(subnet.gateway), to: mac };
  const ends6 = { from: subnet.gateway6, to: address6 };
  const found = (): string[] => {
    const fromGuest = wire.seen.filter((frame) => frame.subarray(6, 12).toString("hex") === mac.replaceAll(":", ""));
    const four = packets4(fromGuest).some(({ from, protocol, payload }) => from === address && protocol === 1 && payload[0] === 0);
    const six = fromGuest.some((frame) => frame.readUInt16BE(12) === 0x86dd && frame[20] === 58 && frame[54] === 129);
    return [...(four ? ["IPv4"] : []), ...(six ? ["IPv6"] : [])];
  };
  const deadline = systemClock.monotonicMs() + answerLimitMs;
  while (found().length < 2 && systemClock.monotonicMs() < deadline) {
    wire.send(ether(ends, 0x0800, ip4({ from: subnet.gateway, to: address }, 1, echo4())));
    wire.send(ether(ends, 0x86dd, ip6(ends6, 58, icmp6(ends6, 128, Buffer.from([0, 1, 0, 1])))));
    await systemClock.sleep(300);
  }
  return found();
}

const taps = async (): Promise<string[]> => (await readLinks()).flatMap(({ ifname }) => (/^pw[0-9a-f]{12}$/.test(ifname) ? [ifname] : []));
const vm = assignment("172.30.0.2");
const ruled: Assignment = { ...vm, generation: 2n, spec: VmSpec.fromPartial({ ...vm.spec, egress: denyAll }) };
/** Of VMs' own chains, by what they do. */
const rules = async (): Promise<string[]> => {
  const chains = [...(await readRuleCounts())].filter(([chain]) => /^inet (out|back)_pw/.test(chain));
  return chains.map(([chain, count]) => `${chain.replace(/^inet (\w+)_pw.*/, "$1")} ${count}`);
};
/** The VMM, as the journal has it. */
const startedOnce = async (): Promise<string> => {
  const { entries } = await openJournalFiles(journalsIn(dir)).readAll();
  const { process } = entries.find(({ assignment: { vmId } }) => vmId === vm.vmId) ?? {};
  return `${process?.pid} ${process?.startTicks}`;
};
const ofAll = { complete: false, part: undefined, partCount: undefined };

await live(async (machines) => {
  await machines.apply({ assignments: [vm, assignment("10.0.0.5")], ...ofAll });
  await until(machines, vm.vmId, Phase.PHASE_RUNNING);
  result["answers"] = await answers("172.30.0.2");
  result["taps"] = await taps();
  result["wrongAddress"] = reports
    .filter(({ vmId, phase }) => vmId !== vm.vmId && phase === Phase.PHASE_FAILED)
    .map(({ reason }) => reason);
  const process = await startedOnce();
  await machines.apply({ assignments: [ruled], ...ofAll });
  while (reports.findLast(({ vmId }) => vmId === vm.vmId)?.generation !== ruled.generation) await systemClock.sleep(50);
  result["rules"] = await rules();
  result["isSameProcess"] = (await startedOnce()) === process;
});
await live(async (machines) => {
  result["tapsOfNextLife"] = await taps();
  result["rulesInNextLife"] = await rules();
  result["answersInNextLife"] = await answers("172.30.0.2");
  const stopped = { ...ruled, generation: 3n, desired: Desired.DESIRED_STOPPED };
  await machines.apply({ assignments: [stopped], ...ofAll });
  await until(machines, vm.vmId, Phase.PHASE_STOPPED);
  result["leftWhenStopped"] = [...(await taps()), ...(await readAddresses4())];
  const again = { ...vm, generation: 4n, restartGeneration: 4n, epoch: 2n, address: { ipv4: "172.30.0.7", ipv6: "" } };
  await machines.apply({ assignments: [again], ...ofAll });
  await until(machines, vm.vmId, Phase.PHASE_RUNNING);
  result["answersElsewhere"] = await answers("172.30.0.7");
  await machines.apply({ assignments: [{ ...again, generation: 5n, desired: Desired.DESIRED_DELETED }], ...ofAll });
  await until(machines, vm.vmId, Phase.PHASE_GONE);
  result["left"] = [
    ...(await taps()),
    ...(await readAddresses4()),
    execFileSync("ip", ["neigh", "show", "dev", "pwbr0"], { encoding: "utf8" }).trim(),
  ].filter((line) => line !== "");
});
result["expectedTap"] = namesOf(subnet, { ...vm, address: "172.30.0.2" }).tap;
process.stdout.write(`${JSON.stringify(result)}\n`);
