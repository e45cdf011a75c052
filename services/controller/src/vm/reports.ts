// What nodes say of their VMs: taken over into the rows, unless it speaks of another placement or comes from a session that is over.
import { isDeepStrictEqual } from "node:util";
import type { Inventory, VmReport } from "@pitwall/proto/pitwall/v1/link.ts";
import { Desired, Phase, VmSpec, VmTimings } from "@pitwall/proto/pitwall/v1/vm.ts";
import { isUuid, planted, systemClock, type Failpoints, type Log } from "@pitwall/runtime";
import { writeAudit } from "../mutation/audit.ts";
import { holdSessions, holdsSession } from "../nodes/session-rows.ts";
import { gather } from "../nodes/gather.ts";
import type { Session, Sessions } from "../nodes/sessions.ts";
import type { VmRow } from "../store/entities.ts";
import type { EntityManager, Store } from "../store/store.ts";
import { lockVms, readVms, type LockedVm } from "../store/vm-batch.ts";
import { lockVm } from "../store/vm-rows.ts";
import { endsAfter } from "./asked.ts";
import { deletion, lostReason } from "./assignments.ts";
import { effects, follow, wordOf } from "./lifecycle.ts";
import type { Recorded, Recorder } from "./recorder.ts";
import { fingerprintOfBlob } from "./ssh-keys.ts";
import { rowState } from "./state.ts";
import { resourcesOf } from "./wanted.ts";

/** Of a VM that was to be suspended and runs on. */
const notSuspended = "SUSPEND_FAILED";
const refusalEveryMs = 60_000;
/** Changes of VMs' host keys that are believed of one session. */
const notedKeysOfSession = 100;
/** Nodes whose inventories are taken together are one question to the database. */
const nodesAtOnce = 500;
/** Nodes whose reports are taken together are one change; reports that are taken together of each. */
const nodesInChange = 50;
const reportsInChange = 64;

/** What a session's node says, in its order. */
interface Said {
  readonly session: Session;
  readonly reports: readonly VmReport[];
}

interface Parts {
  readonly store: Store;
  readonly sessions: Sessions;
  readonly recorder: Recorder;
  readonly failpoints: Failpoints;
  readonly log: Log;
}

export class Reports {
  readonly #store: Store;
  readonly #sessions: Sessions;
  readonly #recorder: Recorder;
  readonly #failpoints: Failpoints;
  readonly #log: Log;
  readonly #rowsOf = gather((nodeIds: readonly string[]) => this.#rowsOfAll(nodeIds), nodesAtOnce);
  readonly #together = gather((all: readonly Said[]) => this.#takeTogether(all), nodesInChange);
  /** When a session's claims were last written down, by the monotonic clock. */
  readonly #refusedMs = new WeakMap<Session, number>();
  readonly #notedKeys = new WeakMap<Session, number>();

  constructor({ store, sessions, recorder, failpoints, log }: Parts) {
    this.#store = store;
    this.#sessions = sessions;
    this.#recorder = recorder;
    this.#failpoints = failpoints;
    this.#log = log;
  }

  /** A node's inventory. What it says of each VM is taken; what a complete one lacks is gone. */
  async takeInventory(session: Session, inventory: Inventory): Promise<void> {
    // A look without locks: it spares what is no news a change. What is news is decided on anew under the VM's lock.
    const rows = await this.#rowsOf(session.nodeId);
    const known = new Map(rows.map((row) => [row.id, row]));
    const news = inventory.vms.filter((report) => {
      const row = known.get(report.vmId);
      return !row || !saysNothingNew(row, report);
    });
    for (let from = 0; from < news.length; from += reportsInChange) {
      if (!session.outbox.isOpen) return; // of no use to anybody any more: the next hello says it
      await this.takeAll(session, news.slice(from, from + reportsInChange));
    }
    if (!inventory.complete && !planted("partial-is-complete")) return;
    const present = new Set(inventory.vms.map(({ vmId }) => vmId));
    // One change per VM: a change locks one VM only (store/vm-rows.ts).
    for (const row of rows) if (!present.has(row.id) && mayBeMissed(row)) await this.#miss(session, row.id, row.epoch);
  }

  async #rowsOfAll(nodeIds: readonly string[]): Promise<VmRow[][]> {
    const byNode = Map.groupBy(await readVms(this.#store.read(), "node_id", nodeIds), ({ nodeId }) => nodeId);
    return nodeIds.map((nodeId) => byNode.get(nodeId) ?? []);
  }

  /**
   * Reports of one session in their order, in one change with those of others. What is only passed through is not written: a VM is then as
   * its last report says. `onTaken` hears of some of them before all are taken: those that must be taken alone may take long.
   */
  async takeAll(session: Session, reports: readonly VmReport[], onTaken: (count: number) => void = () => undefined): Promise<void> {
    const left = await this.#together({ session, reports });
    onTaken(reports.length - left.length);
    for (const report of left) {
      await this.#take(session, report);
      onTaken(1);
    }
  }

  /** Of each session, what could not be taken together with others, and is to be taken alone. */
  async #takeTogether(all: readonly Said[]): Promise<VmReport[][]> {
    const observed: string[] = [];
    const left = await this.#store.change(async (em, after) => {
      observed.length = 0;
      const ids = new Set(all.flatMap(({ reports }) => reports.flatMap(({ vmId }) => (isUuid(vmId) ? [vmId] : []))));
      const locked = await lockVms(em, [...ids]);
      const held = await holdSessions(
        em,
        all.map(({ session }) => session),
      );
      const changed = new Set<LockedVm>();
      const alone = all.map(({ session, reports }) => {
        const waiting = new Set<string>();
        return reports.filter((report) => {
          const vm = held.has(session.nodeId) ? locked.get(report.vmId) : undefined;
          if (!vm || waiting.has(report.vmId) || !isPlain(session, vm.row, report)) return waiting.add(report.vmId);
          if (!isCurrent(vm.row, report)) return false;
          observed.push(report.vmId);
          const said = observedIn(vm.row, report);
          if (isSaid(vm.row, said)) return false;
          Object.assign(vm.row, said);
          changed.add(vm);
          return false;
        });
      });
      if (changed.size > 0) await this.#recorder.reported({ em, after }, [...changed]);
      return alone;
    });
    for (const vmId of observed) await this.#failpoints.at("outbox.acked", vmId);
    return left;
  }

  /** One report. A VM that is not the node's is to be deleted there. */
  async #take(session: Session, report: VmReport): Promise<void> {
    const taken = await this.#store.change(async (em, after) => {
      const row = isUuid(report.vmId) ? await lockVm(em, report.vmId) : undefined;
      if (!(await holdsSession(em, session))) return "refused";
      if (row && isClaim(session, report, row)) await this.#refused(em, session, row, "a node speaks of a VM that is not its own");
      if (!row || row.nodeId !== session.nodeId) return report.phase === Phase.PHASE_GONE ? "refused" : "stray";
      if (!isCurrent(row, report)) return "refused";
      const change = { em, after };
      const word = wordOf(row.desired, report.phase);
      if (word === undefined) {
        const { desired } = row;
        await this.#refused(em, session, row, "a node says of a VM what it may not", { phase: report.phase, desired });
        return "refused";
      }
      if (word === "gone") {
        follow(rowState(row), "removed", row.name);
        await this.#recorder.removed(change, row);
        await this.#failpoints.at("delete.db.row.removed", row.id);
        return "removed";
      }
      await (word === "lost" ? this.#lose(change, row) : this.#observe(change, session, row, report));
      return "observed";
    });
    // One that is being deleted already is: the node answers each assignment, and it would go back and forth for as long as that takes.
    if (taken === "stray" && report.phase !== Phase.PHASE_DELETING) this.#sessions.assign(session.nodeId, deletion(report));
    if (taken === "observed") await this.#failpoints.at("outbox.acked", report.vmId);
    if (taken === "removed") await this.#failpoints.at("delete.db.row.gone", report.vmId);
  }

  /** Somebody should see it; each is counted, and a node that says so all the time is written down now and then. */
  async #refused(em: EntityManager, session: Session, { id, projectId }: VmRow, what: string, detail: object = {}): Promise<void> {
    this.#sessions.noteRefusal();
    const nowMs = systemClock.monotonicMs();
    if (nowMs - (this.#refusedMs.get(session) ?? -refusalEveryMs) < refusalEveryMs) return;
    this.#refusedMs.set(session, nowMs);
    const actor = `node:${session.nodeId}`;
    this.#log.warn(what, { node: session.nodeId, vm: id, ...detail });
    const record = { object: `vm/${id}`, projectId, detail: { ...detail } };
    await writeAudit(em, { actor, subject: actor, action: "ReportRefused", requestId: "" }, record);
  }

  async #observe(change: Recorded, session: Session, row: VmRow, report: VmReport): Promise<void> {
    const said = observedIn(row, report);
    if (isSaid(row, said)) return; // said again: no news to anybody, and the VM's etag stays
    if (isOtherHostKey(row, report)) {
      if (await this.#noteHostKey(change.em, session, row, report)) said.sshHostKeyChanged = true;
      else said.sshHostKey = row.sshHostKey;
    }
    await this.#recorder.changed(change, Object.assign(row, said), { tellNode: false });
  }

  /**
   * A VM's host key is made once for each placement: another one is a lie, or somebody has changed its disk. False: the session's node has had
   * as many written down as it may, and this one must not be taken: none is that nobody can see.
   */
  async #noteHostKey(em: EntityManager, session: Session, { id, projectId, sshHostKey }: VmRow, report: VmReport): Promise<boolean> {
    const noted = this.#notedKeys.get(session) ?? 0;
    if (noted >= notedKeysOfSession) return false;
    this.#notedKeys.set(session, noted + 1);
    const actor = `node:${session.nodeId}`;
    const detail = { was: fingerprintOf(sshHostKey), is: fingerprintOf(report.sshHostKey) };
    this.#log.warn("a node reports another SSH host key of a VM", { node: session.nodeId, vm: id, ...detail });
    await writeAudit(em, { actor, subject: actor, action: "HostKeyChanged", requestId: "" }, { object: `vm/${id}`, projectId, detail });
    return true;
  }

  /** A complete inventory that was made under this placement lacks the VM. */
  async #miss(session: Session, id: string, epoch: bigint): Promise<void> {
    await this.#store.change(async (em, after) => {
      const row = await lockVm(em, id);
      if (!row || row.nodeId !== session.nodeId || row.epoch !== epoch || !(await holdsSession(em, session))) return;
      if (mayBeMissed(row)) await this.#lose({ em, after }, row);
    });
  }

  async #lose(change: Recorded, row: VmRow): Promise<void> {
    follow(rowState(row), "lost", row.name);
    this.#log.error("a node lost a VM", { vm: row.id, node: row.nodeId });
    row.phase = Phase.PHASE_FAILED;
    row.reason = lostReason;
    row.message = "its node no longer has the VM; its disk is gone. Start it to begin with an empty disk, or delete it";
    row.observedGeneration = row.generation;
    row.sshHostKey = "";
    row.sshHostKeyChanged = false;
    await this.#recorder.changed(change, row, { tellNode: false });
  }
}

/** What a report makes of the VM's row. */
function observedIn(row: VmRow, report: VmReport): Partial<VmRow> {
  const { place } = VmTimings.fromJSON(row.timings);
  return {
    phase: report.phase,
    ...endsAfter(row, report),
    ...(isFailedSuspension(row, report) && { desired: Desired.DESIRED_RUNNING, asked: null }),
    reason: report.reason,
    message: report.message,
    // A node that names what nobody has asked for yet must not drown what is said of the VM later, by it or by the VM's next node.
    observedGeneration: report.generation < row.generation ? report.generation : row.generation,
    ...(takesUpSpec(row, report) && sizeOf(row)),
    sshHostKey: report.sshHostKey || row.sshHostKey, // not told is not forgotten: the next one that is told is compared with it
    restartCount: report.restartCount,
    health: report.health,
    timings: VmTimings.toJSON({ ...(report.timings ?? VmTimings.fromPartial({})), place }),
  };
}

/**
 * What did not work is no longer asked for: the VM runs on, and is one of those that should. That is all that a node may decide, and of nothing
 * but a VM that was to be suspended: one that is to be stopped or deleted it cannot keep by its word.
 */
function isFailedSuspension(row: VmRow, report: VmReport): boolean {
  if (report.reason !== notSuspended || report.generation !== row.generation || row.desired !== Desired.DESIRED_SUSPENDED) return false;
  return effects[rowState(row)]["not suspended"] !== undefined;
}

/** Whether it says a state that its node may say of the VM: neither that it has nothing of it, nor anything else that is refused. */
function saysState({ desired }: VmRow, { phase }: VmReport): boolean {
  const word = wordOf(desired, phase);
  return word !== undefined && word !== "lost" && word !== "gone";
}

/** Whether the row is that already. */
function isSaid(row: VmRow, said: Partial<VmRow>): boolean {
  return isDeepStrictEqual({ ...row, ...said }, { ...row });
}

/** Whether it speaks of the row's placement, and of no older wish than the last one did. */
function isCurrent(row: VmRow, report: VmReport): boolean {
  return row.epoch === report.epoch && report.generation >= row.observedGeneration;
}

/** Whether a report can be taken together with others: nothing but its VM's row is locked or written for it. */
function isPlain(session: Session, row: VmRow, report: VmReport): boolean {
  if (row.nodeId !== session.nodeId || isClaim(session, report, row)) return false;
  if (!saysState(row, report) || isOtherHostKey(row, report)) return false;
  if (isFailedSuspension(row, report)) return false; // what is asked for changes
  const becomes = { ...row, phase: report.phase, ...(takesUpSpec(row, report) && sizeOf(row)) };
  return isDeepStrictEqual(resourcesOf(becomes), resourcesOf(row)); // else triggers write what its node and its project give
}

function isOtherHostKey({ sshHostKey }: VmRow, report: VmReport): boolean {
  return sshHostKey !== "" && report.sshHostKey !== "" && report.sshHostKey !== sshHostKey;
}

/** As `ssh-keygen -l` prints it, of whatever a node says. */
function fingerprintOf(line: string): string {
  return fingerprintOfBlob(Buffer.from(line.split(" ")[1] ?? "", "base64"));
}

/** Whether a report of the VM's node would change nothing. */
function saysNothingNew(row: VmRow, report: VmReport): boolean {
  return isCurrent(row, report) && saysState(row, report) && isSaid(row, observedIn(row, report));
}

/** One that is to be deleted is gone when the node says so: an assignment of it may be on its way, behind the inventory that lacks it. */
function mayBeMissed({ desired, observedGeneration, reason }: VmRow): boolean {
  return desired !== Desired.DESIRED_DELETED && observedGeneration > 0n && reason !== lostReason;
}

/** Whether the VM takes of its node what its spec says from now on: it begins with it, or takes nothing. */
function takesUpSpec({ generation }: VmRow, report: VmReport): boolean {
  return report.generation === generation && takingUp.has(report.phase);
}

const takingUp: ReadonlySet<Phase> = new Set([Phase.PHASE_PREPARING, Phase.PHASE_BOOTING, Phase.PHASE_STOPPED]);

function sizeOf(row: VmRow): Pick<VmRow, "cpuMillis" | "memBytes"> {
  const { cpuMillis, memBytes } = VmSpec.fromJSON(row.spec);
  return { cpuMillis, memBytes };
}

/** A node can know the latest placement of a VM only by having it. What it says of an older one is no lie: it may have been away. */
function isClaim({ nodeId }: Session, { epoch }: VmReport, row: VmRow): boolean {
  return row.nodeId === nodeId ? epoch > row.epoch : epoch >= row.epoch;
}
