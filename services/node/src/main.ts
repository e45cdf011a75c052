// The node agent's composition root.
import { mkdir, readFile, statfs } from "node:fs/promises";
import { freemem } from "node:os";
import { join } from "node:path";
import { openIdentity } from "@pitwall/enroll";
import { imageSourceOptions, openImageSources } from "@pitwall/oci";
import {
  exists,
  failpointsFrom,
  logLevel,
  openLog,
  openOperations,
  PitwallError,
  runMain,
  systemClock,
  systemRandom,
  type Failpoints,
} from "@pitwall/runtime";
import { startAgent, type AgentFence } from "./agent.ts";
import { hostCapacity, readNodeConfig, simulatedCapacity, type NodeConfig } from "./config.ts";
import { openFirecrackerDriver } from "./firecracker/driver.ts";
import { openGuest } from "./guest/client.ts";
import { openFence } from "./host/fence.ts";
import { hostMark } from "./host/host-mark.ts";
import { buildBaseInitramfs } from "./host/initramfs.ts";
import { journalsIn, openJournalFiles } from "./host/journal-files.ts";
import { noFence } from "./host/no-fence.ts";
import { hostProcesses } from "./host/processes.ts";
import { lockState } from "./host/state-lock.ts";
import { openImageCache } from "./images/cache.ts";
import { answer } from "./images/commands.ts";
import { grpcDial } from "./link/dial.ts";
import { labelsOf } from "./labels.ts";
import type { HostNetwork } from "./machine/host.ts";
import type { JournalStore } from "./machine/journal.ts";
import { openIngredients } from "./machine/prepare.ts";
import type { VmmDriver } from "./machine/vmm.ts";
import { openHostNetwork } from "./network/host-network.ts";
import { lockNetwork } from "./network/network-lock.ts";
import { networkSettings } from "./network/settings.ts";
import { openQemuDriver } from "./qemu/driver.ts";
import { openSimDriver } from "./sim/driver.ts";
import { startFleet } from "./sim/fleet.ts";
import { openTunnels } from "./tunnels/tunnel.ts";

const log = openLog("node", logLevel(process.env["PITWALL_LOG_LEVEL"]));
await runMain(log, start);

async function start(): Promise<AsyncDisposable> {
  const failpoints = failpointsFrom(process.env, log);
  const config = readNodeConfig(process.env);
  const stateDir = config.PITWALL_STATE_DIR;
  const cacheDir = config.PITWALL_CACHE_DIR ?? join(stateDir, "images");
  const clock = systemClock;
  if (config.PITWALL_SIMULATE !== undefined) return startSimulation(config, config.PITWALL_SIMULATE);
  await using stack = new AsyncDisposableStack();
  const labels = labelsOf(config.PITWALL_LABEL, undefined);
  await mkdir(stateDir, { recursive: true, mode: 0o700 });
  stack.use(await lockState(stateDir));
  const { driver, probed } = await openDriver(config, cacheDir, failpoints);
  const { wiring } = driver;
  const initramfs = await buildBaseInitramfs({
    powerunit: config.PITWALL_POWERUNIT,
    modulesDir: config.PITWALL_MODULES_DIR,
    cacheDir,
    channel: wiring.channel.kind,
  });
  const identity = stack.use(
    await openIdentity({
      dir: join(stateDir, "identity"),
      join: config.PITWALL_JOIN ?? config.PITWALL_JOIN_FILE,
      name: config.PITWALL_NAME,
      serverNames: [],
      log,
    }),
  );
  const sources = openImageSources(imageSourceOptions(config));
  const images = stack.use(await openImageCache({ dir: cacheDir, sources, log, limitMs: config.PITWALL_IMAGE_TIMEOUT, failpoints }));
  const bootId = (await readFile("/proc/sys/kernel/random/boot_id", "utf8")).trim();
  const capacity = hostCapacity(config, Number(await freeDisk(stateDir)));
  const journals = openJournalFiles(journalsIn(stateDir));
  const fence = await fenceOf(config, failpoints, stack);
  let sshUserAuthorities: readonly string[] = [];
  const agent = stack.use(
    await startAgent({
      clock,
      random: systemRandom,
      failpoints,
      log,
      dial: grpcDial(identity, systemRandom, (welcome) => {
        ({ sshUserAuthorities } = welcome);
      }),
      driver,
      probed,
      kernel: config.PITWALL_KERNEL,
      processes: hostProcesses,
      journals,
      ingredients: openIngredients({
        images,
        initramfs,
        cacheDir,
        wiring,
        sshUserAuthorities: () => sshUserAuthorities,
        clock,
        failpoints,
      }),
      openGuest,
      fence,
      network: await networkOf(config, driver, journals, failpoints, stack),
      bootId,
      bootLimitMs: config.PITWALL_BOOT_TIMEOUT,
      capacity,
      available: async () => ({ cpuMillis: capacity.cpuMillis, memBytes: BigInt(freemem()), diskBytes: await freeDisk(stateDir) }),
      labels,
      host: await hostMark(stateDir, bootId),
      openTunnels: (machines) => openTunnels({ machines, identity, clock, failpoints, log }),
      answerImages: (command, signal) => answer(images, command, signal),
      heldImages: () => images.digests(),
    }),
  );
  const operations = stack.use(
    await openOperations({
      at: config.PITWALL_OPS_LISTEN,
      service: "node",
      levels: [
        { name: "pitwall_node_vms", help: "VMs that this node has, in whichever phase.", read: agent.vmCount },
        {
          name: "pitwall_node_lease_held",
          help: "1 while a controller acknowledges its heartbeats.",
          read: () => Number(agent.isLeaseHeld()),
        },
      ],
      notReady: async () => (agent.isLeaseHeld() ? undefined : "no controller acknowledges its heartbeats"),
    }),
  );
  stack.defer(async () => operations.stopping());
  const { id, name } = identity;
  process.stdout.write(
    `${JSON.stringify({ ready: true, id, name, ops: operations.port, driver: driver.name, acceleration: probed.acceleration })}\n`,
  );
  return stack.move();
}

async function startSimulation(config: NodeConfig, script: string): Promise<AsyncDisposable> {
  const stateDir = config.PITWALL_STATE_DIR;
  const count = config.PITWALL_COUNT;
  await using stack = new AsyncDisposableStack();
  await mkdir(stateDir, { recursive: true, mode: 0o700 });
  stack.use(await lockState(stateDir));
  stack.use(
    await startFleet({
      stateDir,
      name: config.PITWALL_NAME,
      count,
      seed: config.PITWALL_SEED,
      script: script === "true" ? undefined : script,
      trace: config.PITWALL_TRACE,
      join: config.PITWALL_JOIN ?? config.PITWALL_JOIN_FILE,
      capacity: simulatedCapacity(config),
      labels: config.PITWALL_LABEL,
      bootLimitMs: config.PITWALL_BOOT_TIMEOUT,
      log,
    }),
  );
  process.stdout.write(`${JSON.stringify({ ready: true, name: config.PITWALL_NAME, nodes: count, driver: "sim" })}\n`);
  return stack.move();
}

async function networkOf(
  config: NodeConfig,
  driver: VmmDriver,
  journals: JournalStore,
  failpoints: Failpoints,
  stack: AsyncDisposableStack,
): Promise<HostNetwork | undefined> {
  switch (config.PITWALL_NETWORK) {
    case "user":
      return undefined;
    case "bridge":
      if (driver.name === "firecracker") {
        const message =
          "VMs under Firecracker have no network yet: use PITWALL_DRIVER=qemu with PITWALL_NETWORK=bridge, or leave the latter out";
        throw new PitwallError("unsupported", message, { reason: "NETWORK_UNSUPPORTED" });
      }
      stack.use(await lockNetwork());
      return stack.use(await openHostNetwork(await networkSettings(config), (await journals.readAll()).entries, log, failpoints));
  }
}

async function fenceOf(config: NodeConfig, failpoints: Failpoints, stack: AsyncDisposableStack): Promise<AgentFence> {
  const program = config.PITWALL_FENCE ?? `${config.PITWALL_POWERUNIT}-fence`;
  if (await exists(program)) {
    const dir = join(config.PITWALL_STATE_DIR, "fence");
    return stack.use(await openFence({ program, dir, clock: systemClock, random: systemRandom, failpoints, log }));
  }
  log.warn("there is no fence program: VMs that may be started elsewhere cannot run here", { program });
  return noFence;
}

interface OpenDriver {
  readonly driver: VmmDriver;
  readonly probed: Awaited<ReturnType<VmmDriver["probe"]>>;
}

/** `auto`: Firecracker where its programs are named and a guest boots under it, else QEMU. */
async function openDriver(config: NodeConfig, cacheDir: string, failpoints: Failpoints): Promise<OpenDriver> {
  const { PITWALL_DRIVER: wanted, PITWALL_KERNEL: kernel } = config;
  const probe = async (driver: VmmDriver): Promise<OpenDriver> => ({ driver, probed: await driver.probe() });
  if (wanted === "sim") return probe(openSimDriver(failpoints));
  const qemu = openQemuDriver({ kernel, cacheDir, failpoints });
  if (wanted === "qemu") return probe(qemu);
  try {
    return await probe(firecrackerDriver(config, failpoints));
  } catch (error) {
    const isElsewhere = wanted === "auto" && error instanceof PitwallError && error.fault === "unsupported";
    if (!isElsewhere) throw error;
    log.info("VMs run under QEMU", { because: error.message });
    return probe(qemu);
  }
}

function firecrackerDriver(config: NodeConfig, failpoints: Failpoints): VmmDriver {
  const { PITWALL_FIRECRACKER_BIN: firecracker, PITWALL_JAILER_BIN: jailer } = config;
  if (firecracker === undefined || jailer === undefined) {
    const message = "Firecracker is not configured: name its programs in PITWALL_FIRECRACKER_BIN and PITWALL_JAILER_BIN";
    throw new PitwallError("unsupported", message, { reason: "VMM_MISSING" });
  }
  return openFirecrackerDriver({
    installed: { firecracker, jailer },
    stateDir: config.PITWALL_STATE_DIR,
    kernel: config.PITWALL_KERNEL,
    uids: config.PITWALL_JAIL_UIDS,
    log,
    failpoints,
  });
}

async function freeDisk(dir: string): Promise<bigint> {
  const { bavail, bsize } = await statfs(dir);
  return BigInt(bavail) * BigInt(bsize);
}
