// A node that a test speaks for: a real member with a certificate, and link messages written by hand.
import { join } from "node:path";
import { openIdentity, type Identity } from "@pitwall/enroll";
import {
  LinkServiceDefinition,
  VmReport,
  type Assignment,
  type ConnectRequest,
  type ConnectResponse,
  type Welcome,
} from "@pitwall/proto/pitwall/v1/link.ts";
import { JoinRole } from "@pitwall/proto/pitwall/v1/node.ts";
import { Desired, Phase } from "@pitwall/proto/pitwall/v1/vm.ts";
import { Outbox, silentLog } from "@pitwall/runtime";
import { ChannelCredentials, createChannel, createClient } from "nice-grpc";
import { eventually, type AdminApi, type Installation } from "./installation.ts";

const capability = 2;

/** Disposing it breaks the stream, without a goodbye. */
export interface SpokenLink extends AsyncDisposable {
  readonly welcome: Welcome;
  say(message: NonNullable<ConnectRequest["message"]>): void;
  /** All messages so far, oldest first. */
  readonly heard: readonly NonNullable<ConnectResponse["message"]>[];
  /** Resolves when the stream has ended, with the error if it was one. */
  readonly ended: Promise<unknown>;
}

export interface SpokenNode {
  readonly id: string;
  readonly name: string;
  readonly identity: Identity;
  /** Says hello at a link address. Throws what the controller answers. */
  link(address: string, vms?: readonly VmReport[], capacityCpuMillis?: number): Promise<SpokenLink>;
}

/** Joins as a node of this name. */
export async function joinNode(installation: Installation, admin: AdminApi, name: string): Promise<SpokenNode> {
  const { join: text } = await admin.nodes.createJoinToken({ role: JoinRole.JOIN_ROLE_NODE, name });
  const identity = await openIdentity({ dir: join(installation.dir, "nodes", name), join: text, name, serverNames: [], log: silentLog });
  return { id: identity.id, name, identity, link: (address, vms, cpu) => openLink(identity, address, vms ?? [], cpu ?? 64_000) };
}

async function openLink(identity: Identity, address: string, vms: readonly VmReport[], cpuMillis: number): Promise<SpokenLink> {
  const { key, cert, ca } = identity.tls();
  const channel = createChannel(address, ChannelCredentials.createSsl(Buffer.from(ca), Buffer.from(key), Buffer.from(cert)), {
    "grpc.use_local_subchannel_pool": 1,
  });
  const outbox = new Outbox<ConnectRequest>(100_000);
  const abort = new AbortController();
  const heard: NonNullable<ConnectResponse["message"]>[] = [];
  outbox.push({
    message: {
      $case: "hello",
      value: {
        agentVersion: "test",
        capability,
        capacity: { cpuMillis: BigInt(cpuMillis), memBytes: 2n ** 40n, diskBytes: 2n ** 44n },
        drivers: [{ name: "sim", version: "1", acceleration: "none" }],
        labels: {},
        inventory: { vms: [...vms], complete: true },
      },
    },
  });
  let failure: unknown;
  let isOver = false;
  const ended = (async () => {
    try {
      for await (const { message } of createClient(LinkServiceDefinition, channel).connect(outbox, { signal: abort.signal }))
        if (message) heard.push(message);
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
    ended,
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

function phaseOf(desired: Assignment["desired"]): VmReport["phase"] {
  if (desired === Desired.DESIRED_DELETED) return Phase.PHASE_GONE;
  return desired === Desired.DESIRED_STOPPED ? Phase.PHASE_STOPPED : Phase.PHASE_RUNNING;
}

/** All assignments that a link was given so far. */
export function assignmentsOf({ heard }: SpokenLink): Assignment[] {
  return heard.flatMap((message) => (message.$case === "assignments" ? message.value.assignments : []));
}

/** Heartbeats, and brings about at once whatever is assigned, until the stream ends. */
export async function obey(link: SpokenLink, heartbeatMs: number): Promise<void> {
  let isOver = false;
  const ended = link.ended.then(() => (isOver = true));
  let sequence = 0n;
  let next = 0;
  while (!isOver) {
    link.say({ $case: "heartbeat", value: { sequence: ++sequence, available: undefined } });
    const until = performance.now() + heartbeatMs;
    while (!isOver && performance.now() < until) {
      for (const assignment of assignmentsOf(link).slice(next)) {
        next++;
        link.say({ $case: "report", value: reportOf(assignment) });
      }
      await Promise.race([ended, new Promise((resolve) => setTimeout(resolve, 10))]);
    }
  }
}
