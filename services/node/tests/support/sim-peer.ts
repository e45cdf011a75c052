// The controller's end of a simulated node's link, for tests on a virtual clock.
import { Assignment, type ConnectRequest, type ConnectResponse, type VmReport } from "@pitwall/proto/pitwall/v1/link.ts";
import { Phase, VmSpec } from "@pitwall/proto/pitwall/v1/vm.ts";
import { Outbox, silentLog, toDuration, VirtualClock } from "@pitwall/runtime";
import type { DialLink } from "../../src/link/dial.ts";
import { SimNode } from "../../src/sim/node.ts";
import { parseScript } from "../../src/sim/script.ts";
import { lineTrace } from "../../src/sim/trace.ts";

export const ttlMs = 10_000;

/** The other end of the link: says what it wants, repeats what it has not seen, and can be cut off. */
export class Peer {
  readonly #clock: VirtualClock;
  readonly #wanted = new Map<string, Assignment>();
  readonly seen = new Map<string, VmReport>();
  readonly reports: VmReport[] = [];
  /** What the latest hello says that there is. */
  inventory: readonly string[] = [];
  #session: Outbox<ConnectResponse> | undefined;
  isReachable = true;
  /** It takes so long over each hello. */
  welcomeMs = 0;

  constructor(clock: VirtualClock) {
    this.#clock = clock;
  }

  want(change: Partial<Assignment> & { readonly vmId: string }): void {
    const base = this.#wanted.get(change.vmId) ?? Assignment.fromPartial({ generation: 0n, epoch: 1n, spec: VmSpec.fromPartial({}) });
    const assignment = { ...base, ...change, generation: base.generation + 1n };
    this.#wanted.set(change.vmId, assignment);
    this.#session?.push({ message: { $case: "assignments", value: { assignments: [assignment], complete: false } } });
  }

  wanted(vmId: string): Assignment {
    return Assignment.fromPartial(this.#wanted.get(vmId) ?? {});
  }

  /** The VM is wanted nowhere any more, and the node is not told. */
  forget(vmId: string): void {
    this.#wanted.delete(vmId);
  }

  say(assignment: Assignment): void {
    this.#session?.push({ message: { $case: "assignments", value: { assignments: [assignment], complete: false } } });
  }

  /** Ends the session; the node finds its way back. */
  drop(): void {
    this.#session?.close();
  }

  repeat(): void {
    this.#session?.push({ message: { $case: "assignments", value: { assignments: [...this.#wanted.values()], complete: false } } });
  }

  cut(): void {
    this.isReachable = false;
    this.#session?.fail(new Error("the network is gone"));
  }

  phase(vmId: string): Phase | undefined {
    return this.seen.get(vmId)?.phase;
  }

  readonly dial: DialLink = (requests, signal) => this.#serve(requests, signal);

  async *#serve(requests: AsyncIterable<ConnectRequest>, signal: AbortSignal): AsyncGenerator<ConnectResponse> {
    if (!this.isReachable) throw new Error("nobody answers");
    const session = new Outbox<ConnectResponse>(1_000);
    this.#session = session;
    signal.addEventListener("abort", () => session.close(), { once: true });
    void this.#listen(requests, session).catch(() => session.close());
    void this.#repeat(session, signal);
    yield* session;
  }

  async #listen(requests: AsyncIterable<ConnectRequest>, session: Outbox<ConnectResponse>): Promise<void> {
    for await (const { message } of requests) {
      if (!this.isReachable) return;
      if (message?.$case === "report") this.#take(message.value);
      if (message?.$case === "heartbeat") session.push({ message: { $case: "heartbeatAck", value: { sequence: message.value.sequence } } });
      if (message?.$case !== "hello") continue;
      const vms = message.value.inventory?.vms ?? [];
      this.inventory = vms.map(({ vmId }) => vmId);
      for (const report of vms) this.#take(report);
      await this.#clock.sleep(this.welcomeMs);
      const times = { heartbeatInterval: toDuration(2_000), leaseTtl: toDuration(ttlMs) };
      const welcome = { nodeId: "n", sessionEpoch: 1n, controllers: [], sshUserAuthorities: [], ...times };
      session.push({ message: { $case: "welcome", value: welcome } });
      session.push({ message: { $case: "assignments", value: { assignments: [...this.#wanted.values()], complete: true } } });
    }
  }

  #take(report: VmReport): void {
    this.reports.push(report);
    this.seen.set(report.vmId, report);
    if (report.phase === Phase.PHASE_GONE) this.#wanted.delete(report.vmId);
  }

  async #repeat(session: Outbox<ConnectResponse>, signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await this.#clock.sleep(10_000, signal).catch(() => undefined);
      const assignments = [...this.#wanted.values()].filter(({ vmId, generation }) => {
        const seen = this.seen.get(vmId);
        return seen?.generation !== generation || seen.reason === "LEASE_LOST";
      });
      if (assignments.length > 0) session.push({ message: { $case: "assignments", value: { assignments, complete: false } } });
    }
  }
}

export interface Run {
  readonly clock: VirtualClock;
  readonly node: SimNode;
  readonly peer: Peer;
  readonly lines: string[];
  steps(): string[];
}

/** A simulated node that is told what to do by a peer. */
export function begin(script: string, seed = "1"): Run {
  const clock = new VirtualClock();
  const peer = new Peer(clock);
  const lines: string[] = [];
  const node = new SimNode({
    ...{ name: "sim-1", clock, seed, script: parseScript(script), dial: peer.dial, bootLimitMs: 60_000, log: silentLog },
    capacity: { cpuMillis: 64_000n, memBytes: 2n ** 36n, diskBytes: 2n ** 40n },
    openTunnels: () => ({ open: async () => undefined, close: () => undefined }),
    trace: lineTrace(clock, (line) => lines.push(line)),
  });
  node.start();
  const steps = (): string[] => lines.map((line) => (JSON.parse(line) as { step: string }).step);
  return { clock, node, peer, lines, steps };
}
