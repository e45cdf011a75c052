// Locks: of one VM for everybody, or of one user for all VMs and the whole API. What is open into VMs ends when its gateway next asks whether it
// may stay, and the API's calls by themselves.
import {
  SessionServiceDefinition,
  type Lock,
  type LockUserRequest,
  type LockVmRequest,
  type UnlockUserRequest,
  type UnlockVmRequest,
} from "@pitwall/proto/pitwall/v1/session.ts";
import { invalid, PitwallError } from "@pitwall/runtime";
import { originOf, type Mutations } from "../mutation/mutations.ts";
import type { Principal } from "../projects/principal.ts";
import { reachProject, reachVm } from "../projects/reach.ts";
import type { EntityManager, Store } from "../store/store.ts";

const maxReasonLength = 200;
const maxSubjectLength = 255;
const service = SessionServiceDefinition;

interface Row {
  readonly vm_id: string | null;
  readonly vm: string | null;
  readonly subject: string | null;
  readonly reason: string;
  readonly created_by: string;
  readonly create_time: Date;
}

/** Throws `denied` when the VM is locked, or the user on whose behalf it is entered is. */
export async function refuseLocked(em: EntityManager, vm: { readonly id: string; readonly name: string }, subject: string): Promise<void> {
  const [lock]: { of_vm: boolean; reason: string }[] = await em.execute(
    `select true as of_vm, reason from vm_lock where vm_id = ?
     union all select false, reason from user_lock where subject = ? limit 1`,
    [vm.id, subject],
  );
  if (!lock) return;
  throw lock.of_vm
    ? new PitwallError("denied", `the VM ${vm.name} is locked${because(lock.reason)}`, { reason: "VM_LOCKED" })
    : lockedOut(lock.reason);
}

/** Throws `denied` when the user is locked out. */
export async function refuseLockedUser(em: EntityManager, subject: string): Promise<void> {
  const [lock]: { reason: string }[] = await em.execute("select reason from user_lock where subject = ?", [subject]);
  if (lock) throw lockedOut(lock.reason);
}

export function lockedOut(reason: string): PitwallError {
  return new PitwallError("denied", `you are locked out${because(reason)}`, { reason: "USER_LOCKED" });
}

const because = (reason: string): string => (reason === "" ? "" : `: ${reason}`);

export class Locks {
  readonly #store: Store;
  readonly #mutations: Mutations;

  constructor({ store, mutations }: { store: Store; mutations: Mutations }) {
    this.#store = store;
    this.#mutations = mutations;
  }

  async lockVm(caller: Principal, request: LockVmRequest): Promise<void> {
    const { reason } = request;
    checkReason(reason);
    await this.#mutations.run({
      service,
      method: service.methods.lockVm,
      caller,
      request,
      work: async ({ em, audit }) => {
        const row = await reachVm(em, caller, request.vm, "owner");
        await em.execute(
          `insert into vm_lock (vm_id, reason, created_by) values (?, ?, ?)
           on conflict (vm_id) do update set reason = excluded.reason, created_by = excluded.created_by`,
          [row.id, reason, originOf(caller).actor],
        );
        await audit({ object: `vm/${row.id}`, projectId: row.projectId, detail: { name: row.name, reason } });
        return {};
      },
    });
  }

  /** Throws `not-found` when it is not locked. */
  async unlockVm(caller: Principal, request: UnlockVmRequest): Promise<void> {
    await this.#mutations.run({
      service,
      method: service.methods.unlockVm,
      caller,
      request,
      work: async ({ em, audit }) => {
        const row = await reachVm(em, caller, request.vm, "owner");
        const gone: unknown[] = await em.execute("delete from vm_lock where vm_id = ? returning 1", [row.id]);
        if (gone.length === 0) throw notLocked(`the VM ${row.name}`);
        await audit({ object: `vm/${row.id}`, projectId: row.projectId, detail: { name: row.name } });
        return {};
      },
    });
  }

  async lockUser(caller: Principal, request: LockUserRequest): Promise<void> {
    const { subject, reason } = request;
    checkReason(reason);
    if (subject === "" || subject.length > maxSubjectLength) throw invalid("subject", `must have 1 to ${maxSubjectLength} characters`);
    // Who could not release it again may have been the last who could.
    if (subject === caller.subject) throw invalid("subject", "must be somebody else: nobody locks themselves out");
    await this.#mutations.run({
      service,
      method: service.methods.lockUser,
      caller,
      request,
      work: async ({ em, audit }) => {
        await em.execute(
          `insert into user_lock (subject, reason, created_by) values (?, ?, ?)
           on conflict (subject) do update set reason = excluded.reason, created_by = excluded.created_by`,
          [subject, reason, originOf(caller).actor],
        );
        await audit({ object: `user/${subject}`, detail: { reason } });
        return {};
      },
    });
  }

  /** Throws `not-found` when they are not locked out. */
  async unlockUser(caller: Principal, request: UnlockUserRequest): Promise<void> {
    const { subject } = request;
    await this.#mutations.run({
      service,
      method: service.methods.unlockUser,
      caller,
      request,
      work: async ({ em, audit }) => {
        const gone: unknown[] = await em.execute("delete from user_lock where subject = ? returning 1", [subject]);
        if (gone.length === 0) throw notLocked(`the user ${JSON.stringify(subject.slice(0, 80))}`);
        await audit({ object: `user/${subject}` });
        return {};
      },
    });
  }

  /** Throws `denied` for `-` unless an administrator asks. */
  async list(caller: Principal, project: string): Promise<Lock[]> {
    const em = this.#store.read();
    const ofVms =
      "select vm_id, vm.name as vm, null::text as subject, vm_lock.reason, created_by, vm_lock.create_time from vm_lock join vm on vm.id = vm_id";
    if (project !== "-") {
      const { project: row } = await reachProject(em, caller, project, "member");
      return toWire(await em.execute(`${ofVms} where project_id = ? order by vm.name, vm_id`, [row.id]));
    }
    if (!caller.isAdmin)
      throw new PitwallError("denied", "project: all locks are for administrators", { reason: "NOT_ADMIN", field: "project" });
    return toWire(
      await em.execute(
        `${ofVms} union all select null::uuid, null::text, subject, reason, created_by, create_time from user_lock order by subject, vm, vm_id`,
      ),
    );
  }
}

function checkReason(reason: string): void {
  if (reason.length > maxReasonLength) throw invalid("reason", `must be at most ${maxReasonLength} characters`);
}

function notLocked(what: string): PitwallError {
  return new PitwallError("not-found", `${what} is not locked`, { reason: "LOCK_NOT_FOUND" });
}

function toWire(rows: readonly Row[]): Lock[] {
  return rows.map((row) => ({
    vmId: row.vm_id ?? "",
    vm: row.vm ?? "",
    subject: row.subject ?? "",
    reason: row.reason,
    createdBy: row.created_by,
    createTime: new Date(row.create_time),
  }));
}
