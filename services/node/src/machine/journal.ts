// A VM's journal: written before each effect, removed last, so that a killed agent finds all it made. Where it is kept is a port.
import { Assignment, VmReport } from "@pitwall/proto/pitwall/v1/link.ts";
import { PitwallError } from "@pitwall/runtime";
import { z } from "zod";
import type { VmmProcess } from "./vmm.ts";

/** Everything the agent knows of one VM. */
export interface JournalEntry {
  /** What the controller last asked for. */
  readonly assignment: Assignment;
  /** What was last reported. */
  readonly report: VmReport;
  /** The VMM, from just after its start until it was seen to be gone. */
  readonly process: VmmProcess | undefined;
  /** The generation that the VMM was started for; 0: none was. */
  readonly booted: bigint;
  /** What it was started with: a suspended VM goes on with that, whatever its spec says by now. */
  readonly size?: VmSize | undefined;
  /** A VMM may be running that `process` does not name yet. */
  readonly starting: boolean;
  /** Boot of the host that this was written in. */
  readonly bootId: string;
}

export interface VmSize {
  readonly vcpus: number;
  readonly memBytes: number;
}

/** Of one VM, and cannot be read: cut off, empty, another VM's, or of no agent that this one knows. */
export interface DamagedJournal {
  readonly vmId: string;
  /** What is wrong with it. */
  readonly error: unknown;
}

/** All journals: those that can be read, and those that cannot and are left as they are. */
export interface Journals {
  readonly entries: readonly JournalEntry[];
  readonly damaged: readonly DamagedJournal[];
}

/** What a call has resolved for is there after a crash of the host, too. */
export interface JournalStore {
  /** The VM's own folder: there from the first write to the removal. */
  dirOf(vmId: string): string;
  write(vmId: string, entry: JournalEntry): Promise<void>;
  /** All of the VM's files but the journal. */
  clear(vmId: string): Promise<void>;
  /** The last step of a removal. */
  remove(vmId: string): Promise<void>;
  /** All VMs. What has no journal is what a crash left before anything was promised: it is removed. */
  readAll(): Promise<Journals>;
}

const stored = z.object({
  version: z.literal(1),
  assignment: z.unknown(),
  report: z.unknown(),
  process: z.object({ driver: z.string(), pid: z.number().int(), startTicks: z.string() }).optional(),
  /** Absent in journals of agents that did not restart VMs. */
  booted: z.string().optional(),
  size: z.object({ vcpus: z.number().int(), memBytes: z.number().int() }).optional(),
  starting: z.boolean(),
  bootId: z.string(),
});

/** As text, without the secret of a credential: after a restart the controller sends it again. */
export function encodeEntry({ assignment, report, process, booted, size, starting, bootId }: JournalEntry): string {
  return JSON.stringify({
    version: 1,
    assignment: Assignment.toJSON(withoutSecret(assignment)),
    report: VmReport.toJSON(report),
    ...(process && { process: { ...process, startTicks: String(process.startTicks) } }),
    booted: String(booted),
    ...(size && { size }),
    starting,
    bootId,
  } satisfies z.input<typeof stored>);
}

function withoutSecret(assignment: Assignment): Assignment {
  const { imageCredential: credential } = assignment;
  return credential ? { ...assignment, imageCredential: { registry: credential.registry, username: "", secret: undefined } } : assignment;
}

/** Whether a registry refused an image whose credential the controller has not sent since the agent started. */
export function lacksSecret({ imageCredential }: Assignment, error: unknown): boolean {
  if (imageCredential === undefined || imageCredential.secret !== undefined || !(error instanceof PitwallError)) return false;
  return error.fault === "denied" || error.fault === "not-found";
}

/** Throws for what {@link encodeEntry} has not written, or has written of another VM. */
export function decodeEntry(vmId: string, text: string): JournalEntry {
  const { process, booted, size, starting, bootId, ...kept } = stored.parse(JSON.parse(text));
  const assignment = Assignment.fromJSON(kept.assignment);
  if (assignment.vmId !== vmId) throw new PitwallError("state", "the journal is another VM's", { reason: "JOURNAL_FOREIGN" });
  return {
    assignment,
    report: VmReport.fromJSON(kept.report),
    process: process && { ...process, startTicks: BigInt(process.startTicks) },
    booted: booted === undefined ? assignment.generation : BigInt(booted),
    size,
    starting,
    bootId,
  };
}
