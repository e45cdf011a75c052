// A directed run's incident: the process that passes a failpoint is started again with it armed, and VMs come and go until it was passed.
//
//   VMs run on each node -> the owner starts again, armed -> rounds of traffic, and what else the place needs -> struck -> nothing is armed any more
import { randomUUID } from "node:crypto";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { imageOf, layerOf, writeLayout } from "@pitwall/oci/tests/support/layout-writer.ts";
import { tarOf } from "@pitwall/oci/tests/support/tar-writer.ts";
import { command } from "@pitwall/quickstart";
import { systemClock, type FailpointName } from "@pitwall/runtime";
import { Phase } from "@pitwall/sdk";
import type { Clients } from "./clients.ts";
import type { DirectedRun } from "./directed.ts";
import type { Installation } from "./installation.ts";
import { gatewayAddress, sshPort } from "./network.ts";
import { nodeCount } from "./schedule.ts";
import type { Service } from "./service.ts";
import { signalAll, strike } from "./strike.ts";

/** The node, and the controller, whose process is armed. */
const victim = 0;
const armedController = 1;
/** Longer than a node's lease and its fence's time: others take over meanwhile. A fifth of the design's 30 s. Times the pace, as all of these. */
const stopMs = 6_000;
/** An assignment is repeated after 10 s, a lost node judged after as long; all are slower on a slow machine. */
const hitLimitMs = 90_000;
/** Longer than any run. */
const untilHealedMs = 3_600_000;
const settleLimitMs = 15_000;
/** For a VM to run. */
const bootMs = 3_000;
/** For a node that is linked to hold its lease, and to have told its fence. */
const guardedMs = 2_000;
/** A drive that came too early for its place comes again. */
const driveAgainMs = 12_000;
const lookMs = 25;
const perRound = 3;
const roundEveryMs = 1_500;
const sshTries = 10;
/** The user name of one who goes on to a VM from there. */
const anyVm = "jump";

/** What must go wrong before, so that the place is passed at all. */
const first: Partial<Readonly<Record<FailpointName, string>>> = {
  "outbox.repeated": "outbox.sent#1=drop-send,",
};

/** What must go wrong in the process before the one that passes the place. */
const before: Partial<Readonly<Record<FailpointName, string>>> = {
  "rejoin.destroy": "create.vmm.spawned#1=exit",
};

type Drive = (installation: Installation) => Promise<unknown>;

const loseAnotherNode: Drive = async ({ nodes }) => nodes[2]?.kill(untilHealedMs);
/** Once its fence has VMs to guard again. */
const killAgent: Drive = async (installation) => {
  await installation.nodesAreReady();
  await systemClock.sleep(guardedMs * installation.pace);
  installation.nodes[victim]?.kill(stopMs * installation.pace);
};

/** What drives a process through a place besides traffic and its own start. */
const drives: Partial<Readonly<Record<FailpointName, Drive>>> = {
  "lease.expired.seen": (installation) =>
    strike(installation, { kind: "node-partition", atMs: 0, forMs: stopMs * installation.pace, victim, controller: undefined }),
  "lease.session.ended": async ({ nodes }) => nodes[2]?.kill(0),
  "lease.resigned": async ({ controllers }) => controllers[armedController]?.end(),
  "lease.lost.marked": loseAnotherNode,
  "lease.lost.committed": loseAnotherNode,
  "reschedule.sched.placed": loseAnotherNode,
  "reschedule.sched.committed": loseAnotherNode,
  "fence.kill": killAgent,
  "fence.killed": killAgent,
  "gateway.draining": async ({ gateway }) => gateway.end(),
  "ssh.key.authorized": knockWithKey,
};

/** VMs that stay are reached by their names all the time; of many that come and go few are. Ways into VMs close with these. */
function driveOf(point: FailpointName): Drive | undefined {
  return drives[point] ?? (point.startsWith("tunnel.") && point !== "tunnel.closed" ? async () => undefined : undefined);
}

/** Whether the place is passed for a VM that outlives its agent: fences end those that may move. */
function isOutlived(point: FailpointName): boolean {
  return before[point] !== undefined || point === "rejoin.adopt" || point.startsWith("tunnel.");
}

/** Whether something is wrong with a node in the run. */
export function concernsNode({ owner }: DirectedRun, node: number): boolean {
  return owner === "controller" || owner === "gateway" || node === victim;
}

/** Resolves to whether the place was struck. */
export async function direct(run: DirectedRun, installation: Installation, clients: Clients): Promise<boolean> {
  const struckIn = join(installation.dir, "log", `struck-${randomUUID()}`);
  const traffic = new Traffic(installation, clients, !isOutlived(run.point));
  await traffic.begin();
  const arming = arm(run, installation, struckIn);
  const drive = driveOf(run.point);
  let isOver = false;
  const driving = (async () => {
    // What is driven needs VMs that stay. More rounds than this show no more, and take the machine's time.
    while (!isOver && drive === undefined) await Promise.all([traffic.round(), systemClock.sleep(roundEveryMs * installation.pace)]);
  })();
  const limitMs = hitLimitMs * installation.pace;
  const deadline = systemClock.monotonicMs() + limitMs;
  let isHit = false;
  const driven = (async () => {
    await Promise.race([arming, systemClock.sleep(limitMs)]);
    while (!isHit && !isOver) {
      if (drive) await traffic.everywhere();
      await drive?.(installation);
      for (let waitedMs = 0; waitedMs < driveAgainMs * installation.pace && !isHit && !isOver; waitedMs += lookMs)
        await systemClock.sleep(lookMs);
    }
  })();
  while (!isHit && systemClock.monotonicMs() < deadline) {
    await systemClock.sleep(lookMs);
    isHit = (await readFile(struckIn, "utf8").catch(() => "")).includes(`${run.point} ${run.action}\n`);
  }
  installation.controllers[victim]?.heal();
  installation.nodes[2]?.heal();
  if (run.action === "stop" && isHit) await systemClock.sleep(stopMs * installation.pace);
  isOver = true;
  await Promise.all([driving, driven]);
  if (run.owner === "fence") await installation.nodes[victim]?.restart({}); // whose fences would all be armed
  return isHit;
}

/** Somebody with a key that is known comes to the gateway's SSH port. */
async function knockWithKey(installation: Installation): Promise<void> {
  const key = join(installation.dir, `key-${randomUUID()}`);
  await command("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-f", key]);
  await installation.client().addSshKey(await readFile(`${key}.pub`, "utf8"));
  const options = ["BatchMode=yes", "ConnectTimeout=5", "StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "IdentitiesOnly=yes"];
  const args = ["-F", "none", ...options.flatMap((option) => ["-o", option]), "-i", key, "-p", String(sshPort)];
  // There is nothing to be had behind the key.
  for (let tried = 0; tried < sshTries; tried++)
    await command("ssh", [...args, `${anyVm}@${gatewayAddress}`, "true"]).catch(() => undefined);
}

/** Resolves when the process is up, or the one after it. */
async function arm(
  { point, owner, action }: DirectedRun,
  { controllers, gateway, nodes, scanner, pace }: Installation,
  log: string,
): Promise<void> {
  const what = action === "stop" ? `stop:${stopMs * pace}ms` : action;
  const env = (armed: string): Record<string, string> => ({
    PITWALL_FAILPOINTS: armed,
    PITWALL_ALLOW_FAILPOINTS: "1",
    PITWALL_FAILPOINTS_LOG: log,
  });
  const starts = [...(before[point] === undefined ? [] : [env(before[point])]), env(`${first[point] ?? ""}${point}#1=${what}`)];
  const restart = async (service: Service | undefined): Promise<unknown> => service?.restart(...starts);
  switch (owner) {
    case "controller":
      // Not both at once: nodes that find no controller wait longer and longer before they try again.
      await restart(controllers[armedController]);
      controllers[victim]?.kill(untilHealedMs); // all goes to the other one, until it was struck
      return;
    case "gateway":
      await restart(gateway);
      return;
    case "fence": {
      const restarted = restart(nodes[victim]);
      signalAll(scanner.pids(victim, "fence"), "SIGKILL"); // the next one is started by the armed agent
      await restarted;
      return;
    }
    default:
      await restart(nodes[victim]);
  }
}

/** VMs in threes: each three comes, stops and goes. */
class Traffic {
  readonly #installation: Installation;
  readonly #clients: Clients;
  /** Whether VMs may begin anew elsewhere: one of four that come and go may not all the same. */
  readonly #moves: boolean;
  #made = 0;

  constructor(installation: Installation, clients: Clients, moves: boolean) {
    this.#installation = installation;
    this.#clients = clients;
    this.#moves = moves;
  }

  async begin(): Promise<void> {
    // One after the other: asked for at once they might come together.
    for (let node = 0; node < nodeCount; node++) await this.#create(this.#installation.image, 1);
    await this.everywhere();
  }

  /** On each node a VM runs: places that are driven are passed for what runs there. One of a node that was lost for a moment has moved. */
  async everywhere(): Promise<void> {
    const { pace } = this.#installation;
    const nowMs = (): number => systemClock.monotonicMs();
    const deadline = nowMs() + settleLimitMs * pace;
    for (let askedMs = nowMs(); (await this.#nodesThatRun()).size < nodeCount && nowMs() < deadline; await systemClock.sleep(lookMs))
      if (nowMs() > askedMs + bootMs * pace) {
        await this.#create(this.#installation.image, 1);
        askedMs = nowMs();
      }
  }

  /** Nodes on which a VM runs. */
  async #nodesThatRun(): Promise<Set<string>> {
    const running = "select distinct node_id as node from vm where phase = $1";
    return new Set((await this.#installation.database.query<{ node: string }>(running, [Phase.PHASE_RUNNING])).map(({ node }) => node));
  }

  /** Three VMs of an image that no node has ever seen come; the three before them go. */
  async round(): Promise<void> {
    const previous = this.#made - perRound;
    const image = await this.#newImage();
    await Promise.all([
      this.#create(image),
      (async () => {
        for (const kind of ["stop", "delete"] as const) await this.#all(kind, previous, image);
      })(),
    ]);
  }

  async #create(image: string, count = perRound): Promise<void> {
    const from = this.#made;
    this.#made += count;
    await this.#all("create", from, image, count);
  }

  async #all(kind: "create" | "stop" | "delete", from: number, image: string, count = perRound): Promise<void> {
    const vms = Array.from({ length: count }, (_, index) => from + index);
    await Promise.all(
      vms.map((vm) =>
        this.#clients.call({ kind, atMs: 0, vm, moves: this.#moves && !(image !== this.#installation.image && vm % 4 === 3), image }),
      ),
    );
  }

  async #newImage(): Promise<string> {
    const id = randomUUID();
    const dir = join(this.#installation.imageRoot, id);
    await writeLayout(dir, imageOf([layerOf(tarOf([{ name: "id", content: Buffer.from(id) }]), "none")]));
    return `oci:${dir}`;
  }
}
