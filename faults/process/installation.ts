// All of Pitwall in one world: PostgreSQL, two controllers, a gateway and three nodes, each a real process; times are three tenths of the
// usual, or that times the pace of a machine that is busy.
import { mkdir, readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { startIssuer, type Issuer } from "@pitwall/controller/tests/support/issuer.ts";
import { command } from "@pitwall/quickstart";
import { systemClock, writeFileAtomic } from "@pitwall/runtime";
import { NodeState, Pitwall } from "@pitwall/sdk";
import type { Makings } from "./makings.ts";
import { apiPort, controllerAddress, databaseAddress, gatewayAddress, linkPort, makeNetwork, namespaceOf, sshPort } from "./network.ts";
import { Postgres } from "./postgres.ts";
import { Scanner } from "./scanner.ts";
import { controllerCount, nodeCount } from "./schedule.ts";
import { Service, type UnexpectedEnd } from "./service.ts";

/** Shorter ones do not outlast a machine of two CPUs on which thirty processes start. */
const leaseMs = 3_000;
const heartbeatMs = 600;
/** Of the controllers, in the judges' words: the lease, and half of it again for the fence. */
const patience = 1.5;
export const capacity = { cpuMillis: 1_000, memBytes: 2 ** 31 };
const nodeDiskBytes = 192 * 2 ** 20;
const webPort = 8080;
const admin = "root";
export const clientName = "client";
const readyLimitMs = 60_000;
const lookMs = 50;

export class Installation implements AsyncDisposable {
  readonly dir: string;
  readonly database: Postgres;
  readonly controllers: readonly Service[];
  readonly gateway: Service;
  readonly nodes: readonly Service[];
  readonly scanner: Scanner;
  readonly image: string;
  /** Below it is what controllers and nodes may read as images. */
  readonly imageRoot: string;
  /** Of nodes, by their index. */
  readonly nodeIds: readonly string[];
  /** All that hangs on leases takes so many times as long. */
  readonly pace: number;
  readonly #issuer: Issuer;
  readonly #parts: AsyncDisposableStack;

  private constructor(parts: Omit<InstallationParts, "parts">, stack: AsyncDisposableStack) {
    this.dir = parts.dir;
    this.database = parts.database;
    this.controllers = parts.controllers;
    this.gateway = parts.gateway;
    this.nodes = parts.nodes;
    this.scanner = parts.scanner;
    this.image = parts.image;
    this.imageRoot = parts.imageRoot;
    this.nodeIds = parts.nodeIds;
    this.pace = parts.pace;
    this.#issuer = parts.issuer;
    this.#parts = stack;
  }

  /** In `dir`, an empty folder of this world. */
  static async start(makings: Makings, dir: string): Promise<Installation> {
    await using stack = new AsyncDisposableStack();
    const { pace } = makings;
    await mkdir(join(dir, "log"));
    await makeNetwork(nodeCount, controllerCount);
    const databaseAddresses = Array.from({ length: controllerCount }, (_, index) => databaseAddress(index));
    const database = stack.use(await Postgres.open(join(dir, "postgres"), makings, databaseAddresses));
    const issuer = stack.use(await startIssuer());
    const start = (spec: Pick<Service, "name"> & { program: "controller" | "gateway" | "node" }, env: Record<string, string>): Service => {
      const { name, program } = spec;
      const namespace = program === "node" ? namespaceOf(Number(name.slice("node-".length))) : undefined;
      const all = { ...baseEnv(makings, dir, name), ...env };
      return stack.use(new Service({ name, program, namespace, env: all, logPath: join(dir, "log", `${name}.log`) }));
    };
    const images = { PITWALL_IMAGE_ROOTS: makings.imageRoot };
    const controllers: Service[] = [];
    for (let index = 0; index < controllerCount; index++) {
      const controller = start(
        { name: `controller-${index}`, program: "controller" },
        {
          ...images,
          PITWALL_LISTEN: `${controllerAddress(index)}:${apiPort}`,
          PITWALL_LINK_LISTEN: `${controllerAddress(index)}:${linkPort}`,
          PITWALL_DATABASE_URL: database.url(databaseAddress(index)),
          PITWALL_CA_DIR: join(dir, "ca"),
          PITWALL_ISSUER: issuer.url,
          PITWALL_ADMIN_SUBJECTS: admin,
          PITWALL_HEARTBEAT: `${heartbeatMs * pace}ms`,
          PITWALL_LEASE: `${leaseMs * pace}ms`,
          PITWALL_READS_PER_SECOND: "0",
          PITWALL_CHANGES_PER_SECOND: "0",
          ...(index === 0 && { PITWALL_BOOTSTRAP_DIR: join(dir, "bootstrap") }),
        },
      );
      controllers.push(controller);
      if (index === 0) await controller.ready(); // it makes the CA
    }
    await Promise.all(controllers.map((controller) => controller.ready())); // who joins is told of all
    const gateway = start(
      { name: "gateway", program: "gateway" },
      {
        PITWALL_LISTEN: `${gatewayAddress}:${webPort}`,
        PITWALL_INSECURE_CLEARTEXT: "true", // nobody else is on this network
        PITWALL_SSH_LISTEN: `${gatewayAddress}:${sshPort}`,
        PITWALL_TUNNEL_LISTEN: `${gatewayAddress}:7443`,
        PITWALL_ISSUER: issuer.url,
        PITWALL_JOIN: (await readFile(join(dir, "bootstrap", "gateway.join"), "utf8")).trim(),
      },
    );
    await gateway.ready();
    const operator = new Pitwall({ endpoint: endpoint(), token: () => issuer.token(admin) });
    const { join: token } = await operator.createJoinToken("node", "", nodeCount);
    const nodes: Service[] = [];
    for (let index = 0; index < nodeCount; index++) {
      const stateDir = join(dir, `node-${index}`);
      await mkdir(stateDir);
      await command("mount", ["-t", "tmpfs", "-o", `mode=700,size=${nodeDiskBytes}`, "tmpfs", stateDir]);
      const env = {
        ...images,
        PITWALL_STATE_DIR: stateDir,
        PITWALL_NAME: `node-${index}`,
        PITWALL_JOIN: token,
        PITWALL_DRIVER: "sim",
        PITWALL_POWERUNIT: makings.powerunit,
        PITWALL_MODULES_DIR: join(dirname(makings.powerunit), "modules"),
        PITWALL_FENCE: makings.fence,
        PITWALL_CACHE_DIR: join(dir, `cache-${index}`),
        PITWALL_CAPACITY_CPU_MILLIS: String(capacity.cpuMillis),
        PITWALL_CAPACITY_MEM: String(capacity.memBytes),
        PITWALL_CAPACITY_DISK: "100Gi",
        PITWALL_BOOT_TIMEOUT: "24s",
      };
      nodes.push(start({ name: `node-${index}`, program: "node" }, env));
    }
    const scanner = stack.use(new Scanner(dir, nodeCount, pace, (node) => nodes[node]?.pid));
    const said = await Promise.all(nodes.map((node) => node.ready()));
    const nodeIds = said.map(({ id }) => String(id));
    const { image, imageRoot } = makings;
    const made = new Installation(
      { dir, database, controllers, gateway, nodes, scanner, image, imageRoot, nodeIds, pace, issuer },
      stack.move(),
    );
    await made.nodesAreReady();
    await made.makeProject();
    return made;
  }

  get services(): readonly Service[] {
    return [...this.controllers, this.gateway, ...this.nodes];
  }

  /** In which a node may come back before it is judged lost. */
  get patienceMs(): number {
    return leaseMs * patience * this.pace;
  }

  /** Ends that nobody brought about, since the last time this was asked. */
  takeUnexpected(): UnexpectedEnd[] {
    return this.services.flatMap(({ unexpected }) => unexpected.splice(0));
  }

  endpoint(): string {
    return endpoint();
  }

  token(subject: string): Promise<string> {
    return this.#issuer.token(subject);
  }

  /** A client of the system, as the user who owns the VMs. `onRetry` hears of each try after the first. */
  client(onRetry: () => void = () => undefined): Pitwall {
    return new Pitwall({ endpoint: endpoint(), token: () => this.token(clientName), onRetry });
  }

  get operator(): Pitwall {
    return new Pitwall({ endpoint: endpoint(), token: () => this.token(admin) });
  }

  /** Resolves when all nodes are linked. Throws after a minute. */
  async nodesAreReady(): Promise<void> {
    const deadline = systemClock.monotonicMs() + readyLimitMs;
    for (;;) {
      const nodes = await this.operator.listNodes().catch(() => []);
      if (nodes.filter(({ state }) => state === NodeState.NODE_STATE_READY).length === nodeCount) return;
      if (systemClock.monotonicMs() > deadline) throw new Error(`the nodes did not link within ${readyLimitMs} ms`);
      await systemClock.sleep(lookMs);
    }
  }

  /** The clock of one process is so far off; 0 heals it. */
  async shiftClock(name: string, seconds: number): Promise<void> {
    await writeFileAtomic(clockFile(this.dir, name), shifted(seconds)); // half of it would end the process
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#parts.disposeAsync();
  }

  private async makeProject(): Promise<void> {
    await this.client().projects.list();
    await this.database.query(
      `update project set quota_vms = 10000, quota_cpu_millis = 1e9::bigint, quota_mem_bytes = 1e15::bigint,
         quota_disk_bytes = 1e17::bigint, quota_addresses = 10000`,
    );
  }
}

interface InstallationParts {
  readonly dir: string;
  readonly database: Postgres;
  readonly controllers: readonly Service[];
  readonly gateway: Service;
  readonly nodes: readonly Service[];
  readonly scanner: Scanner;
  readonly image: string;
  readonly imageRoot: string;
  readonly nodeIds: readonly string[];
  readonly pace: number;
  readonly issuer: Issuer;
  readonly parts: AsyncDisposableStack;
}

const endpoint = (): string => `http://${gatewayAddress}:${webPort}`;
const clockFile = (dir: string, name: string): string => join(dir, "log", `${name}.clock`);
const shifted = (seconds: number): string => `${seconds < 0 ? "-" : "+"}${Math.abs(seconds)}s\n`;

/** Of every service: its own state folder, and its own clock where clocks can be faked. */
function baseEnv({ path, fakeTime, compiled }: Makings, dir: string, name: string): Record<string, string> {
  const own = { TMPDIR: dir, PITWALL_STATE_DIR: join(dir, name), PITWALL_LOG_LEVEL: "info" };
  const env = { PATH: path, HOME: "/", NODE_COMPILE_CACHE: compiled, ...own };
  if (fakeTime === "") return env;
  return {
    ...env,
    LD_PRELOAD: fakeTime,
    FAKETIME_TIMESTAMP_FILE: clockFile(dir, name),
    FAKETIME_CACHE_DURATION: "1", // seconds; without it each look at the clock reads the file
    FAKETIME_DONT_FAKE_MONOTONIC: "1",
    NO_FAKE_STAT: "1",
  };
}
