// A node as a controller sees it: one that has joined, keeps a link, and does at once, or when the test says so, what it is told.
import { join } from "node:path";
import { openIdentity } from "@pitwall/enroll";
import { LinkServiceDefinition, VmReport, type Assignment, type ConnectRequest } from "@pitwall/proto/pitwall/v1/link.ts";
import { Desired, Phase } from "@pitwall/proto/pitwall/v1/vm.ts";
import { logLevel, openLog, Outbox, systemClock } from "@pitwall/runtime";
import { ChannelCredentials, createChannel, createClient } from "nice-grpc";
import type { TestControllers } from "./controllers.ts";

export interface TestNode extends AsyncDisposable {
  readonly id: string;
  /** All that it was told, in order. */
  readonly told: readonly Assignment[];
  /** What it holds, by VM. */
  readonly vms: ReadonlyMap<string, VmReport>;
  /** Says something of a VM that it holds. */
  report(vmId: string, change: Partial<VmReport>): void;
  /** Resolves once it has been told something of which this is true. */
  isTold(predicate: (assignment: Assignment) => boolean): Promise<Assignment>;
}

export interface TestNodeOptions {
  readonly name: string;
  /** Whose link it uses. Default 0. */
  readonly controller?: number;
  /** Thousandths of a CPU, and MiB of memory and disk. Default: plenty. */
  readonly capacity?: { readonly cpuMillis: number; readonly memMib: number; readonly diskMib: number };
  readonly labels?: Record<string, string>;
  /** Default 1: an old one. */
  readonly level?: number;
  /** Does nothing by itself. Default false. */
  readonly isIdle?: boolean;
}

const plenty = { cpuMillis: 1_000_000, memMib: 1_000_000, diskMib: 10_000_000 };
const heartbeatMs = 1_000;

export async function startNode(
  pitwall: TestControllers,
  { name, controller = 0, capacity = plenty, labels = {}, level = 1, isIdle = false }: TestNodeOptions,
): Promise<TestNode> {
  await using parts = new AsyncDisposableStack();
  const log = openLog("node", logLevel("error"));
  const dir = join(pitwall.dir, `node-${name}`);
  const identity = parts.use(await openIdentity({ dir, join: await pitwall.joinNode(name), name, serverNames: [], log }));
  const { key, cert, ca } = identity.tls();
  const address = pitwall.controllers[controller]?.link ?? "";
  const channel = createChannel(address, ChannelCredentials.createSsl(Buffer.from(ca), Buffer.from(key), Buffer.from(cert)));
  parts.defer(() => channel.close());

  const told: Assignment[] = [];
  const vms = new Map<string, VmReport>();
  const waiting = new Set<() => void>();
  const outbox = new Outbox<ConnectRequest>(100_000);
  const mib = (amount: number): bigint => BigInt(amount) * 1_048_576n;
  const { cpuMillis, memMib, diskMib } = capacity;
  const resources = { cpuMillis: BigInt(cpuMillis), memBytes: mib(memMib), diskBytes: mib(diskMib) };
  const say = (report: VmReport): void => {
    if (report.phase === Phase.PHASE_GONE) vms.delete(report.vmId);
    else vms.set(report.vmId, report);
    outbox.push({ message: { $case: "report", value: report } });
  };
  outbox.push({
    message: {
      $case: "hello",
      value: {
        agentVersion: "test",
        capability: level,
        capacity: resources,
        drivers: [],
        labels,
        subnet: undefined,
        inventory: { vms: [], complete: true },
      },
    },
  });

  let sequence = 0n;
  const beatOnce = (): void => void outbox.push({ message: { $case: "heartbeat", value: { sequence: ++sequence, available: resources } } });
  const stop = new AbortController();
  const ready = Promise.withResolvers<void>();
  const stream = createClient(LinkServiceDefinition, channel).connect(outbox, { signal: stop.signal });
  const reading = (async () => {
    try {
      for await (const { message } of stream) {
        if (message?.$case === "welcome") beatOnce();
        if (message?.$case !== "assignments") continue;
        for (const assignment of message.value.assignments) {
          told.push(assignment);
          if (!isIdle) say(doneWith(assignment));
        }
        ready.resolve();
        for (const look of waiting) look();
      }
      ready.reject(new Error("the link ended"));
    } catch (error) {
      ready.reject(error);
    }
  })();
  ready.promise.catch(() => undefined);
  const beat = setInterval(beatOnce, heartbeatMs);
  parts.defer(async () => {
    clearInterval(beat);
    outbox.close();
    stop.abort();
    await reading;
  });
  await ready.promise;
  const kept = parts.move();
  return {
    id: identity.id,
    told,
    vms,
    report(vmId, change) {
      const known =
        vms.get(vmId) ??
        told
          .filter((assignment) => assignment.vmId === vmId)
          .map(doneWith)
          .at(-1);
      if (!known) throw new Error(`the node does not hold ${vmId}`);
      say({ ...known, ...change });
    },
    async isTold(predicate) {
      for (;;) {
        const found = told.find(predicate);
        if (found) return found;
        await new Promise<void>((resolve) => {
          const look = (): void => {
            waiting.delete(look);
            resolve();
          };
          waiting.add(look);
        });
      }
    },
    [Symbol.asyncDispose]: () => kept.disposeAsync(),
  };
}

const phaseOf: Readonly<Record<number, VmReport["phase"]>> = {
  [Desired.DESIRED_RUNNING]: Phase.PHASE_RUNNING,
  [Desired.DESIRED_PAUSED]: Phase.PHASE_PAUSED,
  [Desired.DESIRED_SUSPENDED]: Phase.PHASE_SUSPENDED,
  [Desired.DESIRED_STOPPED]: Phase.PHASE_STOPPED,
  [Desired.DESIRED_DELETED]: Phase.PHASE_GONE,
};

/** What a node says that has done as it was told. */
function doneWith({ vmId, generation, epoch, desired }: Assignment): VmReport {
  return VmReport.fromPartial({
    ...{ vmId, generation, epoch, phase: phaseOf[desired] ?? Phase.PHASE_FAILED },
    observeTime: new Date(systemClock.wallMs()),
  });
}
