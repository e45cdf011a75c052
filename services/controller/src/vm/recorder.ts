// Writes what became of a VM, with the event that tells of it, in the change that it belongs to.
import { Vm } from "@pitwall/proto/pitwall/v1/vm.ts";
import type { VmRow } from "../store/entities.ts";
import type { EntityManager } from "../store/store.ts";
import { writeReported, type LockedVm } from "../store/vm-batch.ts";
import { nextRevision, vmNames, writeVmEvent } from "../store/vm-rows.ts";
import type { Feed } from "./feed.ts";
import { toGone, toVm } from "./wire.ts";

/** The part of a change that it needs. */
export interface Recorded {
  readonly em: EntityManager;
  after(then: () => void): void;
}

export class Recorder {
  readonly #feed: Pick<Feed, "committed">;

  constructor(feed: Pick<Feed, "committed">) {
    this.#feed = feed;
  }

  /** Gives the row its next revision and writes it. `tellNode`: its node is sent what the VM should be. */
  async changed({ em, after }: Recorded, row: VmRow, { tellNode }: { tellNode: boolean }): Promise<Vm> {
    const { revision, time, names } = await nextRevision(em, row);
    row.revision = revision;
    row.updateTime = time;
    await em.flush();
    const vm = toVm(row, names);
    await writeVmEvent(em, { ...eventOf(row), tellNode, body: Vm.encode(vm).finish() });
    after(() => this.#feed.committed());
    return vm;
  }

  /** The same for what nodes reported of VMs that were locked together. */
  async reported({ em, after }: Recorded, vms: readonly LockedVm[]): Promise<void> {
    const changed = vms.map(({ row, revision, time, names }) => {
      Object.assign(row, { revision, updateTime: time });
      return { row, event: { ...eventOf(row), tellNode: false, body: Vm.encode(toVm(row, names)).finish() } };
    });
    await writeReported(em, changed);
    this.committed(after);
  }

  /** Events are written by others in this change. */
  committed(after: Recorded["after"]): void {
    after(() => this.#feed.committed());
  }

  /** Removes the row: nothing is left of the VM. */
  async removed({ em, after }: Recorded, row: VmRow): Promise<void> {
    const { revision, names } = await nextRevision(em, row);
    const vm = toGone(toVm(row, names));
    em.remove(row);
    await em.flush();
    const body = Vm.encode({ ...vm, etag: String(revision) }).finish();
    await writeVmEvent(em, { ...eventOf(row), revision, tellNode: false, gone: true, body });
    after(() => this.#feed.committed());
  }
}

const eventOf = ({ id, projectId, nodeId, revision }: VmRow): Pick<VmRow, "id" | "projectId" | "nodeId" | "revision"> => ({
  id,
  projectId,
  nodeId,
  revision,
});

/** The row as the API speaks of it. */
export async function readVm(em: EntityManager, row: VmRow): Promise<Vm> {
  return toVm(row, await vmNames(em, row));
}
