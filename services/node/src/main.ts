// The node agent's composition root.
import { mkdir, readFile, statfs } from "node:fs/promises";
import { freemem } from "node:os";
import { join } from "node:path";
import { openIdentity } from "@pitwall/enroll";
import { imageSourceOptions, openImageSources } from "@pitwall/oci";
import { logLevel, openLog, runMain } from "@pitwall/runtime";
import { measuredCapacity, readNodeConfig, type NodeConfig } from "./config.ts";
import { buildBaseInitramfs } from "./host/initramfs.ts";
import { lockState } from "./host/state-lock.ts";
import { openImageCache } from "./images/cache.ts";
import { answer } from "./images/commands.ts";
import { openLink, type Link } from "./link/link.ts";
import { openMachines } from "./machine/machines.ts";
import type { VmmDriver } from "./machine/vmm.ts";
import { openQemuDriver } from "./qemu/driver.ts";
import { openSimDriver } from "./sim/driver.ts";
import { openTunnels } from "./tunnels/tunnel.ts";

const agentVersion = "0.1.0";
/** docs/link.md */
const capability = 2;

const log = openLog("node", logLevel(process.env["PITWALL_LOG_LEVEL"]));
await runMain(log, start);

async function start(): Promise<AsyncDisposable> {
  const config = readNodeConfig(process.env);
  const stateDir = config.PITWALL_STATE_DIR;
  const cacheDir = config.PITWALL_CACHE_DIR ?? join(stateDir, "images");
  await using stack = new AsyncDisposableStack();
  await mkdir(stateDir, { recursive: true, mode: 0o700 });
  stack.use(await lockState(stateDir));
  const driver = openDriver(config, cacheDir);
  const { version, acceleration } = await driver.probe();
  const initramfs = await buildBaseInitramfs({ powerunit: config.PITWALL_POWERUNIT, modulesDir: config.PITWALL_MODULES_DIR, cacheDir });
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
  const images = stack.use(await openImageCache({ dir: cacheDir, sources, log }));
  let link: Link | undefined;
  const machines = await openMachines(join(stateDir, "vms"), {
    driver,
    images,
    kernel: config.PITWALL_KERNEL,
    initramfs,
    cacheDir,
    bootId: (await readFile("/proc/sys/kernel/random/boot_id", "utf8")).trim(),
    bootLimitMs: config.PITWALL_BOOT_TIMEOUT,
    log,
    onReport: (report) => link?.report(report),
  });
  stack.defer(() => machines.close());
  const tunnels = openTunnels(machines, identity, log);
  stack.defer(() => tunnels.close());
  const capacity = await capacityOf(config, stateDir);
  link = openLink(
    identity,
    {
      hello: () => ({
        agentVersion,
        capability,
        capacity,
        drivers: [{ name: driver.name, version, acceleration }],
        labels: {},
        inventory: machines.inventory(),
      }),
      available: async () => ({ cpuMillis: capacity.cpuMillis, memBytes: BigInt(freemem()), diskBytes: await freeDisk(stateDir) }),
      onAssignments: (assignments) => machines.apply(assignments),
      onTunnel: (request) => tunnels.open(request),
      onImageCommand: (command, signal) => answer(images, command, signal),
    },
    log,
  );
  stack.use(link);
  process.stdout.write(`${JSON.stringify({ ready: true, id: identity.id, name: identity.name, driver: driver.name, acceleration })}\n`);
  return stack.move();
}

function openDriver(config: NodeConfig, cacheDir: string): VmmDriver {
  switch (config.PITWALL_DRIVER) {
    case "sim":
      return openSimDriver();
    case "qemu":
    case "auto":
      return openQemuDriver({ kernel: config.PITWALL_KERNEL, cacheDir });
  }
}

async function capacityOf(config: NodeConfig, stateDir: string): Promise<{ cpuMillis: bigint; memBytes: bigint; diskBytes: bigint }> {
  const measured = measuredCapacity();
  return {
    cpuMillis: BigInt(config.PITWALL_CAPACITY_CPU_MILLIS ?? measured.cpuMillis),
    memBytes: BigInt(config.PITWALL_CAPACITY_MEM ?? measured.memBytes),
    diskBytes: config.PITWALL_CAPACITY_DISK === undefined ? await freeDisk(stateDir) : BigInt(config.PITWALL_CAPACITY_DISK),
  };
}

async function freeDisk(dir: string): Promise<bigint> {
  const { bavail, bsize } = await statfs(dir);
  return BigInt(bavail) * BigInt(bsize);
}
