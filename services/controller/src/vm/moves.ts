// What owners do to VMs that are there: each a move of the lifecycle, made under the VM's lock.
import {
  Desired,
  VmServiceDefinition,
  type ExtendVmRequest,
  type Plan,
  type RenameVmRequest,
  type UndeleteVmRequest,
  type UpdateVmRequest,
  type Vm,
} from "@pitwall/proto/pitwall/v1/vm.ts";
import { PitwallError, type Failpoints } from "@pitwall/runtime";
import { originOf, type Change, type Method, type Mutations } from "../mutation/mutations.ts";
import type { Nodes } from "../nodes/nodes.ts";
import type { Principal } from "../projects/principal.ts";
import { reachProject, reachVm, vmNotFound, type Reached } from "../projects/reach.ts";
import { observeQuota } from "../quota/quota.ts";
import type { VmRow } from "../store/entities.ts";
import { databaseNowMs, isKeyTaken, isNodeFull, type EntityManager } from "../store/store.ts";
import { lockVm, vmNames } from "../store/vm-rows.ts";
import { noteAsked, type Why } from "./asked.ts";
import { lostReason } from "./assignments.ts";
import { maxPlacements, nameTaken, nodesTooQuick } from "./create.ts";
import { needHeeding } from "./egress.ts";
import { checkVmName } from "./names.ts";
import { hostTaken, reachOf, toIngress, withdraw } from "./ingress.ts";
import { decide, effects, table, type Move, type State } from "./lifecycle.ts";
import { checkUnchanged, planOf } from "./plan.ts";
import { StaleFleet, type Placed, type Placer } from "./placer.ts";
import { needNode, readmit } from "./readmit.ts";
import { readVm, type Recorder } from "./recorder.ts";
import { rowState } from "./state.ts";
import { durationMs } from "./ttl.ts";
import { applyUpdate } from "./update.ts";

/** The fields that all changes of one VM have. */
export interface MoveRequest {
  readonly vm: string;
  readonly requestId: string;
  readonly etag: string;
  readonly validateOnly: boolean;
  readonly planToken: string;
}

export interface MoveResponse {
  readonly vm: Vm | undefined;
  readonly plan: Plan | undefined;
}

export interface MoveParts {
  readonly mutations: Mutations;
  readonly nodes: Nodes;
  readonly placer: Placer;
  readonly recorder: Recorder;
  readonly failpoints: Failpoints;
}

/** A VM under its lock, and what a move of it is made with. */
interface Moving {
  readonly caller: Principal;
  readonly change: Change;
  readonly row: VmRow;
  readonly state: State;
  readonly reached: Reached;
}

/** What became of it, for the plan and the audit log. */
interface Moved {
  /** Where it begins anew. */
  readonly node?: Placed;
  readonly losses?: readonly string[];
  readonly detail?: Readonly<Record<string, unknown>>;
}

interface Step {
  /** Decided once the state is known. */
  readonly move: (moving: Moving) => Move;
  /** Changes the row; its generation has grown already. Not called for what is already as it is to be. */
  readonly apply: (moving: Moving, move: Move) => Promise<Moved> | Moved;
}

const methods = VmServiceDefinition.methods;
/** The moves that bring an end about, as the API calls them. */
const ends: { readonly [M in Move]?: Why } = {
  ...{ pause: "PAUSE", suspend: "SUSPEND", stop: "STOP", restart: "RESTART", delete: "DELETE", purge: "DELETE" },
};
/** Of nodes that pause and suspend VMs: docs/link.md. */
const holdingCapability = 5;

export class Moves {
  readonly #parts: MoveParts;

  constructor(parts: MoveParts) {
    this.#parts = parts;
  }

  start(caller: Principal, request: MoveRequest): Promise<MoveResponse> {
    return this.#run(methods.startVm, caller, request, {
      move: () => "start",
      apply: async ({ change, row, state }, move) => {
        const anew = await this.#anew(change, row, state);
        if (anew) return anew;
        row.desired = Desired.DESIRED_RUNNING;
        if (table[state][move] !== "resuming") row.restartGeneration = row.generation;
        return {};
      },
    });
  }

  pause(caller: Principal, request: MoveRequest): Promise<MoveResponse> {
    return this.#run(methods.pauseVm, caller, request, holding("pause", Desired.DESIRED_PAUSED));
  }

  suspend(caller: Principal, request: MoveRequest): Promise<MoveResponse> {
    return this.#run(methods.suspendVm, caller, request, holding("suspend", Desired.DESIRED_SUSPENDED));
  }

  stop(caller: Principal, request: MoveRequest): Promise<MoveResponse> {
    return this.#run(methods.stopVm, caller, request, {
      move: () => "stop",
      apply: ({ row, state }) => {
        row.desired = Desired.DESIRED_STOPPED;
        row.moving = false;
        return { losses: memoryOf(row, state) };
      },
    });
  }

  restart(caller: Principal, request: MoveRequest): Promise<MoveResponse> {
    return this.#run(methods.restartVm, caller, request, {
      move: () => "restart",
      apply: async ({ change, row, state }) => {
        const anew = await this.#anew(change, row, state);
        if (anew) return anew;
        row.desired = Desired.DESIRED_RUNNING;
        row.restartGeneration = row.generation;
        return { losses: memoryOf(row, state) };
      },
    });
  }

  /** For good, or until the project's window is over. Throws `state` for a VM that is protected. */
  delete(caller: Principal, request: MoveRequest): Promise<MoveResponse> {
    return this.#run(methods.deleteVm, caller, request, {
      move: ({ state, reached }) => (state === "deleted" || reached.project.undeleteWindowMs === 0n ? "purge" : "delete"),
      apply: async ({ change, row, state, reached }, move) => {
        if (row.deleteProtection) throw isProtected(row);
        if (move === "delete") {
          const losses = [...memoryOf(row, state), ...reachOf(row)];
          await markDeleted(change.em, row, reached.project.undeleteWindowMs);
          return { losses, detail: { purgeTime: row.purgeTime } };
        }
        row.desired = Desired.DESIRED_DELETED;
        withdraw(row);
        return { losses: [`the VM ${row.name} and its disk of ${row.diskBytes / 1_048_576n} MiB`], detail: { forGood: true } };
      },
    });
  }

  undelete(caller: Principal, request: UndeleteVmRequest): Promise<MoveResponse> {
    const name = request.name === "" ? undefined : checkVmName(request.name);
    return this.#run(methods.undeleteVm, caller, request, {
      move: () => "undelete",
      apply: async ({ change, row }) => {
        const nowMs = await databaseNowMs(change.em);
        if (row.purgeTime && row.purgeTime.getTime() <= nowMs)
          throw new PitwallError("state", `the VM ${row.name} can no longer be brought back: its time for that is over`, {
            reason: "UNDELETE_WINDOW_OVER",
          });
        row.name = name ?? row.name;
        row.deleteTime = null;
        row.purgeTime = null;
        // It would be deleted again at once.
        if (row.expireTime && row.expireTime.getTime() <= nowMs) row.expireTime = null;
        row.desired = Desired.DESIRED_STOPPED;
        return {};
      },
    });
  }

  rename(caller: Principal, request: RenameVmRequest): Promise<MoveResponse> {
    const name = checkVmName(request.name);
    return this.#run(methods.renameVm, caller, request, {
      move: () => "change",
      apply: ({ row }) => {
        const detail = { from: row.name };
        row.name = name;
        return { detail };
      },
    });
  }

  extend(caller: Principal, request: ExtendVmRequest): Promise<MoveResponse> {
    const ttlMs = durationMs("ttl", request.ttl);
    return this.#run(methods.extendVm, caller, request, {
      move: () => "change",
      apply: async ({ change, row }) => {
        row.expireTime = ttlMs === undefined ? null : new Date((await databaseNowMs(change.em)) + ttlMs);
        return { detail: { expireTime: row.expireTime } };
      },
    });
  }

  update(caller: Principal, request: UpdateVmRequest): Promise<MoveResponse> {
    return this.#run(methods.updateVm, caller, request, {
      move: () => "change",
      apply: async ({ change, row, state }) => {
        const fields = applyUpdate(row, state, request, await databaseNowMs(change.em));
        await needHeeding(change.em, row, fields);
        const isSeen = fields.some((field) => field.startsWith("ingress."));
        return { detail: { fields, ...(isSeen && { ingress: toIngress(row) }) } };
      },
    });
  }

  /** Lets a suspended VM go on for somebody who comes to it, and leaves every other as it is. Throws `exhausted` when its node has no room. */
  async wake(id: string, visitor: { readonly actor: string; readonly subject: string }): Promise<void> {
    const { mutations, recorder } = this.#parts;
    let name = id;
    await mutations
      .system("VmWoken", async (change) => {
        const row = await lockVm(change.em, id);
        if (!row || effects[rowState(row)].woken === undefined) return;
        name = row.name;
        await needNode(change.em, row);
        await readmit(this.#parts, change, row);
        row.generation += 1n;
        row.desired = Desired.DESIRED_RUNNING;
        row.asked = null;
        await recorder.changed(change, row, { tellNode: true });
        const detail = { name, for: visitor.actor, subject: visitor.subject };
        await change.audit({ object: `vm/${row.id}`, projectId: row.projectId, generation: row.generation, detail });
      })
      .catch((error: unknown) => {
        throw isNodeFull(error) ? noRoomNow(name, error) : error;
      });
  }

  async #run<Req extends MoveRequest>(
    method: Method<Req, MoveResponse>,
    caller: Principal,
    request: Req,
    step: Step,
  ): Promise<MoveResponse> {
    let name = request.vm;
    let host = "";
    let beganAnew = false;
    const work = async (change: Change): Promise<MoveResponse> => {
      const moving = await lock(change, caller, request);
      return this.#work(moving, step, (row, { node }) => {
        name = row.name;
        host = row.host ?? "";
        beganAnew = node !== undefined;
      });
    };
    for (let tries = 1; ; tries++) {
      try {
        const changed = await this.#parts.mutations.run({ service: VmServiceDefinition, method, caller, request, work });
        await this.#parts.failpoints.at(method.name === "DeleteVm" ? "delete.api.committed" : "change.api.committed", changed.vm?.id);
        return changed;
      } catch (error) {
        if (isKeyTaken(error, "vm_host")) throw hostTaken(host);
        if (isKeyTaken(error)) throw nameTaken(name);
        const isOld = error instanceof StaleFleet || (isNodeFull(error) && beganAnew);
        if (!isOld) throw isNodeFull(error) ? noRoomNow(name, error) : error;
        if (tries >= maxPlacements) throw nodesTooQuick(error);
        await this.#parts.placer.refresh();
      }
    }
  }

  /** Makes the row ready to run on its node, or to begin anew elsewhere: what became of it then; undefined: on its node. */
  async #anew(change: Change, row: VmRow, state: State): Promise<Moved | undefined> {
    const from = row.nodeId;
    const { node: was } = await vmNames(change.em, row);
    const node = await readmit(this.#parts, change, row);
    if (!node) return undefined;
    const losses = [
      `the disk of the VM ${row.name} on its node ${was}, which is lost: it begins with an empty one`,
      ...memoryOf(row, state),
    ];
    return { node, losses, detail: { from, to: node.id, epoch: String(row.epoch) } };
  }

  async #work(moving: Moving, { move, apply }: Step, onApplied: (row: VmRow, moved: Moved) => void): Promise<MoveResponse> {
    const { change, row, state, reached } = moving;
    const etag = String(row.revision);
    const quota = await observeQuota(change, row.projectId);
    const chosen = move(moving);
    const isSame = decide(state, chosen, row.name) === "as it is";
    let moved: Moved = {};
    if (!isSame) {
      row.generation += 1n;
      moved = await apply(moving, chosen);
      const why = ends[chosen];
      if (why) await noteAsked(change.em, row, originOf(moving.caller), why);
      else if (chosen === "start") row.asked = null;
      // Its node no longer has it, and is told of it again only when it is started or deleted.
      if (row.reason === lostReason && chosen !== "start" && chosen !== "restart" && chosen !== "purge")
        row.observedGeneration = row.generation;
      onApplied(row, moved);
    }
    const vm = isSame ? await readVm(change.em, row) : await this.#parts.recorder.changed(change, row, { tellNode: true });
    await change.audit({
      object: `vm/${row.id}`,
      projectId: row.projectId,
      generation: row.generation,
      detail: { name: row.name, ...(isSame && { unchanged: true }), ...moved.detail },
    });
    const { node, losses = [] } = moved;
    return { vm, plan: planOf(change, { etag, node, role: reached.role, project: reached.project.name, losses, quota: await quota() }) };
  }
}

function holding(move: "pause" | "suspend", desired: Desired): Step {
  return {
    move: () => move,
    apply: async ({ change, row }) => {
      await needHolding(change.em, row);
      row.desired = desired;
      return {};
    },
  };
}

/** Throws `unsupported` when the VM's node would not know what it is asked for. */
async function needHolding(em: EntityManager, { name, nodeId }: VmRow): Promise<void> {
  const [session]: { capability: number }[] = await em.execute("select capability from node_session where node_id = ?", [nodeId]);
  if (session && session.capability >= holdingCapability) return;
  const message = `the agent of the VM ${name}'s node is too old to pause or suspend VMs: update it`;
  throw new PitwallError("unsupported", message, { reason: "AGENT_TOO_OLD" });
}

/** It comes before everything else that a change does. */
async function lock(change: Change, caller: Principal, { vm, etag }: MoveRequest): Promise<Moving> {
  const { id } = await reachVm(change.em, caller, vm, "member");
  const row = await lockVm(change.em, id);
  if (!row) throw vmNotFound(vm);
  checkUnchanged(change, etag, row);
  const reached = await reachProject(change.em, caller, row.projectId, "member");
  return { caller, change, row, state: rowState(row), reached };
}

/** Stops the VM, and keeps everything of it until the window is over. */
export async function markDeleted(em: EntityManager, row: VmRow, windowMs: bigint): Promise<void> {
  const nowMs = await databaseNowMs(em);
  row.desired = Desired.DESIRED_STOPPED;
  row.moving = false;
  withdraw(row);
  row.deleteTime = new Date(nowMs);
  row.purgeTime = new Date(nowMs + Number(windowMs));
}

/** What is lost when it stops, or does not go on where it was. */
function memoryOf({ name }: VmRow, state: State): string[] {
  return inMemory.has(state) ? [`what the VM ${name} has in memory`] : [];
}

/** Nothing of it need be in memory in the others. */
const inMemory: ReadonlySet<State> = new Set(["running", "pausing", "paused", "suspending", "suspended", "resuming"]);

function noRoomNow(name: string, cause: unknown): PitwallError {
  const message = `the node of the VM ${name} has no room for it at this moment; stop or delete VMs there, or try again`;
  return new PitwallError("exhausted", message, { reason: "NO_CAPACITY", cause });
}

function isProtected({ name }: VmRow): PitwallError {
  return new PitwallError("state", `the VM ${name} is protected from deletion; \`pitwall update ${name} --no-protect\` ends that`, {
    reason: "DELETE_PROTECTED",
  });
}
