// A real host for lone-agent.ts: what runs on it, what is on its disk, and what its agent has reported.
import { spawn, type ChildProcess } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { Assignment, VmReport } from "@pitwall/proto/pitwall/v1/link.ts";
import { Desired, VmSpec, type NodeLossPolicy, type Phase } from "@pitwall/proto/pitwall/v1/vm.ts";
import { processesIn, signalProcess, type ProcessIdentity } from "@pitwall/runtime";

/** A new VM. */
export function wanted(nodeLossPolicy: NodeLossPolicy): Assignment {
  return Assignment.fromPartial({
    ...{ vmId: crypto.randomUUID(), vmName: "vm", generation: 1n, epoch: 1n, desired: Desired.DESIRED_RUNNING },
    spec: VmSpec.fromPartial({ cpuMillis: 1000, memBytes: 2n ** 28n, nodeLossPolicy }),
  });
}

export interface Killed {
  readonly vm: string;
  readonly pid: number;
  readonly gone: boolean;
  readonly deadline_ms: number;
  /** When it was gone, on the same clock. */
  readonly at_ms: number;
}

/** Disposing it leaves nothing. */
export class LoneHost implements AsyncDisposable {
  readonly dir: string;
  readonly reports: VmReport[] = [];
  readonly #fenceProgram: string;
  readonly #ttlMs: number;
  readonly #known = new Set<string>();
  agent: ChildProcess | undefined;

  private constructor(dir: string, fenceProgram: string, ttlMs: number) {
    this.dir = dir;
    this.#fenceProgram = fenceProgram;
    this.#ttlMs = ttlMs;
  }

  static async make(fenceProgram: string, ttlMs: number): Promise<LoneHost> {
    return new LoneHost(await mkdtemp(join(tmpdir(), "pitwall-lone-")), fenceProgram, ttlMs);
  }

  /** Resolves with the agent's exit code. */
  startAgent(assignments: readonly Assignment[], failpoints = ""): Promise<number | null> {
    for (const { vmId } of assignments) this.#known.add(vmId);
    const json = JSON.stringify(assignments.map((one) => Assignment.toJSON(one)));
    const agent = spawn(
      process.execPath,
      [join(import.meta.dirname, "lone-agent.ts"), this.dir, this.#fenceProgram, String(this.#ttlMs), json],
      { stdio: ["ignore", "pipe", "inherit"], env: { ...process.env, PITWALL_FAILPOINTS: failpoints, PITWALL_ALLOW_FAILPOINTS: "1" } },
    );
    createInterface({ input: agent.stdout }).on("line", (line) => this.reports.push(VmReport.fromJSON(JSON.parse(line))));
    this.agent = agent;
    return new Promise((resolve) => agent.once("exit", resolve));
  }

  vmms(vmId: string): readonly ProcessIdentity[] {
    return processesIn(join(this.dir, "vms", vmId));
  }

  get fence(): ProcessIdentity | undefined {
    return processesIn(join(this.dir, "fence"))[0];
  }

  hasReported(vmId: string, phase: Phase): boolean {
    return this.reports.some((report) => report.vmId === vmId && report.phase === phase);
  }

  /** What the fence says that it guards. */
  async guarded(): Promise<readonly string[]> {
    const socket = connect(`/proc/${this.fence?.pid}/cwd/fence.sock`);
    try {
      socket.on("error", () => undefined).write('{"id":1,"op":"hello"}\n');
      for await (const line of createInterface({ input: socket })) return (JSON.parse(line) as { vms?: string[] }).vms ?? [];
      return [];
    } finally {
      socket.destroy();
    }
  }

  /** What the fence has killed. */
  async kills(): Promise<readonly Killed[]> {
    const text = await readFile(join(this.dir, "fence", "fence.log"), "utf8").catch(() => "");
    return text
      .split("\n")
      .filter((line) => line !== "")
      .map((line) => JSON.parse(line) as Killed);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.agent?.kill("SIGKILL");
    const left = [...(this.fence ? [this.fence] : []), ...[...this.#known].flatMap((vmId) => this.vmms(vmId))];
    for (const process of left) signalProcess(process, "SIGKILL");
    await rm(this.dir, { recursive: true, force: true, maxRetries: 5 });
  }
}
