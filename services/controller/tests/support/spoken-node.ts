// A node that a test speaks for: a real member with a certificate, and link messages written by hand.
import { join } from "node:path";
import { openIdentity, type Identity } from "@pitwall/enroll";
import { AccessServiceDefinition } from "@pitwall/proto/pitwall/v1/access.ts";
import {
  LinkServiceDefinition,
  VmReport,
  type Assignment,
  type ConnectRequest,
  type ConnectResponse,
  type Inventory,
  type NodeSubnet,
  type Welcome,
} from "@pitwall/proto/pitwall/v1/link.ts";
import { JoinRole } from "@pitwall/proto/pitwall/v1/node.ts";
import { Desired, Phase } from "@pitwall/proto/pitwall/v1/vm.ts";
import { Outbox, silentLog, systemClock } from "@pitwall/runtime";
import { ChannelCredentials, createChannel, createClient, type Client } from "nice-grpc";
import { eventually, type AdminApi, type Installation } from "./installation.ts";

const capability = 2;
/** docs/link.md: lists in parts. */
const partsCapability = 4;

/** Disposing it breaks the stream, without a goodbye. */
export interface SpokenLink extends AsyncDisposable {
  readonly welcome: Welcome;
  say(message: NonNullable<ConnectRequest["message"]>): void;
  /** All messages so far, oldest first. */
  readonly heard: readonly NonNullable<ConnectResponse["message"]>[];
  /** All that was assigned so far, oldest first. */
  readonly assignments: readonly Assignment[];
  readonly isOver: boolean;
  /** Resolves when the stream has ended, with the error if it was one. */
  readonly ended: Promise<unknown>;
}

export interface HelloOptions {
  /** Default: 64,000. */
  readonly cpuMillis?: number;
  /** Default: none. */
  readonly labels?: Readonly<Record<string, string>>;
  /** From where it comes. Default: it does not say. */
  readonly host?: string;
  /** Default: none. */
  readonly subnet?: NodeSubnet;
  /** docs/link.md. Default: 2, or what lists in parts take. */
  readonly level?: number;
  /** Whether the inventory says that it is. Default: true. */
  readonly complete?: boolean;
  /** The inventory, instead of one of `vms`, each part in a message of its own. */
  readonly parts?: readonly Inventory[];
  /** Does not answer the welcome, as one that has gone elsewhere by then. Default: false. */
  readonly isSilent?: boolean;
}

export interface SpokenNode {
  readonly id: string;
  readonly name: string;
  readonly identity: Identity;
  /** Says hello at a link address, with all that it has unless told otherwise. Throws what the controller answers. */
  link(address: string, vms?: readonly VmReport[], options?: HelloOptions): Promise<SpokenLink>;
}

/** Joins as a node of this name; `labels` are those of its join token. */
export async function joinNode(
  installation: Pick<Installation, "dir">,
  admin: Pick<AdminApi, "nodes">,
  name: string,
  labels: Record<string, string> = {},
): Promise<SpokenNode> {
  const { join: text } = await admin.nodes.createJoinToken({ role: JoinRole.JOIN_ROLE_NODE, name, labels });
  const identity = await openIdentity({ dir: join(installation.dir, "nodes", name), join: text, name, serverNames: [], log: silentLog });
  return { id: identity.id, name, identity, link: (address, vms, options) => linkAs(identity, address, vms ?? [], options) };
}

/** Disposing it ends its connections. */
export interface SpokenGateway extends AsyncDisposable {
  /** AccessService of one controller. */
  access(address: string): Client<typeof AccessServiceDefinition>;
}

/** Joins as a gateway of this name. */
export async function joinGateway(
  installation: Pick<Installation, "dir">,
  admin: Pick<AdminApi, "nodes">,
  name: string,
): Promise<SpokenGateway> {
  await using parts = new AsyncDisposableStack();
  const { join: text } = await admin.nodes.createJoinToken({ role: JoinRole.JOIN_ROLE_GATEWAY, name });
  const dir = join(installation.dir, "gateways", name);
  const identity = parts.use(await openIdentity({ dir, join: text, name, serverNames: ["127.0.0.1"], log: silentLog }));
  const { key, cert, ca } = identity.tls();
  const credentials = ChannelCredentials.createSsl(Buffer.from(ca), Buffer.from(key), Buffer.from(cert));
  const kept = parts.move();
  return {
    access(address) {
      const channel = createChannel(address, credentials);
      kept.defer(() => channel.close());
      return createClient(AccessServiceDefinition, channel);
    },
    [Symbol.asyncDispose]: () => kept.disposeAsync(),
  };
}

/** With any certificate. */
export async function linkAs(
  identity: Pick<Identity, "tls">,
  address: string,
  vms: readonly VmReport[] = [],
  {
    cpuMillis = 64_000,
    labels = {},
    host,
    subnet,
    level,
    complete = true,
    isSilent = false,
    parts = [{ vms: [...vms], complete }],
  }: HelloOptions = {},
): Promise<SpokenLink> {
  const [inventory, ...rest] = parts;
  const { key, cert, ca } = identity.tls();
  const channel = createChannel(address, ChannelCredentials.createSsl(Buffer.from(ca), Buffer.from(key), Buffer.from(cert)), {
    "grpc.use_local_subchannel_pool": 1,
  });
  const outbox = new Outbox<ConnectRequest>(100_000);
  const abort = new AbortController();
  const heard: NonNullable<ConnectResponse["message"]>[] = [];
  const assignments: Assignment[] = [];
  outbox.push({
    message: {
      $case: "hello",
      value: {
        agentVersion: "test",
        capability: level ?? (parts.some(({ partCount }) => partCount !== undefined) ? partsCapability : capability),
        capacity: { cpuMillis: BigInt(cpuMillis), memBytes: 2n ** 40n, diskBytes: 2n ** 44n },
        drivers: [{ name: "sim", version: "1", acceleration: "none" }],
        labels: { ...labels },
        inventory,
        subnet,
        host,
      },
    },
  });
  for (const value of rest) outbox.push({ message: { $case: "inventory", value } });
  let failure: unknown;
  let isOver = false;
  const ended = (async () => {
    try {
      for await (const { message } of createClient(LinkServiceDefinition, channel).connect(outbox, { signal: abort.signal }))
        if (message) {
          heard.push(message);
          // As an agent does: before that a controller takes a hello for one that may be old.
          if (message.$case === "welcome" && !isSilent)
            outbox.push({ message: { $case: "heartbeat", value: { sequence: 1n, available: undefined } } });
          if (message.$case === "assignments") assignments.push(...message.value.assignments);
        }
    } catch (error) {
      failure = error;
    } finally {
      isOver = true;
      channel.close();
    }
    return failure;
  })();
  const welcome = await eventually(() => {
    if (isOver && heard.length === 0) throw failure;
    const [first] = heard;
    return first?.$case === "welcome" ? first.value : undefined;
  });
  return {
    welcome,
    heard,
    assignments,
    ended,
    get isOver() {
      return isOver;
    },
    say: (message) => void outbox.push({ message }),
    async [Symbol.asyncDispose]() {
      abort.abort();
      await ended;
    },
  };
}

/** What a node says of a VM that is as it was assigned. */
export function reportOf({ vmId, generation, epoch, desired }: Assignment, phase = phaseOf(desired)): VmReport {
  return VmReport.fromPartial({ vmId, generation, epoch, phase, sshHostKey: "ssh-ed25519 AAAA" });
}

const phases: ReadonlyMap<Desired, Phase> = new Map([
  [Desired.DESIRED_PAUSED, Phase.PHASE_PAUSED],
  [Desired.DESIRED_SUSPENDED, Phase.PHASE_SUSPENDED],
  [Desired.DESIRED_STOPPED, Phase.PHASE_STOPPED],
  [Desired.DESIRED_DELETED, Phase.PHASE_GONE],
]);

function phaseOf(desired: Assignment["desired"]): VmReport["phase"] {
  return phases.get(desired) ?? Phase.PHASE_RUNNING;
}

/** Heartbeats until the stream ends. */
export async function stayHeard(link: SpokenLink, heartbeatMs: number): Promise<void> {
  for (let sequence = 1n; !link.isOver; sequence++) {
    link.say({ $case: "heartbeat", value: { sequence, available: undefined } });
    await systemClock.sleep(heartbeatMs);
  }
}

/** Heartbeats, and says that whatever is assigned has come about, until the stream ends. `vms` is what it has then. */
export async function obey(link: SpokenLink, heartbeatMs: number, vms = new Map<string, VmReport>()): Promise<void> {
  void stayHeard(link, heartbeatMs);
  for (let next = 0; !link.isOver; await systemClock.sleep(10)) {
    for (const assignment of link.assignments.slice(next)) {
      next++;
      const report = reportOf(assignment);
      if (report.phase === Phase.PHASE_GONE) vms.delete(report.vmId);
      else vms.set(report.vmId, report);
      link.say({ $case: "report", value: report });
    }
  }
}

/** Keeps a link with one of the controllers, as an agent does: when it ends, the next one is tried. Disposing it breaks the link. */
export function keepLinked(node: SpokenNode, addresses: readonly string[], heartbeatMs: number): AsyncDisposable {
  const vms = new Map<string, VmReport>();
  let isStopped = false;
  let link: SpokenLink | undefined;
  const running = (async () => {
    for (let turn = 0; !isStopped; turn++) {
      link = await node.link(addresses[turn % addresses.length] ?? "", [...vms.values()]).catch(() => undefined);
      if (link) await obey(link, heartbeatMs, vms);
      else await systemClock.sleep(100);
    }
  })();
  return {
    async [Symbol.asyncDispose]() {
      isStopped = true;
      await link?.[Symbol.asyncDispose]();
      await running;
    },
  };
}
