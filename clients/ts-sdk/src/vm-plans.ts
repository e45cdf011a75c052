// What changes of VMs would do, without doing it.
import type { Client } from "nice-grpc-web";
import { present, type CallExtras } from "./calls.ts";
import type { Plan, Vm, VmServiceDefinition } from "./gen/pitwall/v1/vm.ts";
import {
  changeRequest,
  createRequest,
  extendRequest,
  renameRequest,
  undeleteRequest,
  updateRequest,
  type ChangeOptions,
  type CreateVmOptions,
  type VmUpdate,
} from "./vm-requests.ts";

export interface PlannedVm {
  /** As it would be. */
  readonly vm: Vm;
  /** Its `token`, given as `planToken` within 10 minutes to the same change, does exactly this. */
  readonly plan: Plan;
}

/** As the methods of {@link Vms}, but nothing is changed. */
export class VmPlans {
  readonly #raw: Client<VmServiceDefinition, CallExtras>;

  constructor(raw: Client<VmServiceDefinition, CallExtras>) {
    this.#raw = raw;
  }

  async create(options: CreateVmOptions): Promise<PlannedVm> {
    return planned(await this.#raw.createVm(createRequest(options, only), retry));
  }

  async start(vm: string, options: ChangeOptions = {}): Promise<PlannedVm> {
    return planned(await this.#raw.startVm(changeRequest(vm, options, only), retry));
  }

  async pause(vm: string, options: ChangeOptions = {}): Promise<PlannedVm> {
    return planned(await this.#raw.pauseVm(changeRequest(vm, options, only), retry));
  }

  async suspend(vm: string, options: ChangeOptions = {}): Promise<PlannedVm> {
    return planned(await this.#raw.suspendVm(changeRequest(vm, options, only), retry));
  }

  async stop(vm: string, options: ChangeOptions = {}): Promise<PlannedVm> {
    return planned(await this.#raw.stopVm(changeRequest(vm, options, only), retry));
  }

  async restart(vm: string, options: ChangeOptions = {}): Promise<PlannedVm> {
    return planned(await this.#raw.restartVm(changeRequest(vm, options, only), retry));
  }

  async delete(vm: string, options: ChangeOptions = {}): Promise<PlannedVm> {
    return planned(await this.#raw.deleteVm(changeRequest(vm, options, only), retry));
  }

  async undelete(vm: string, options: ChangeOptions & { name?: string } = {}): Promise<PlannedVm> {
    return planned(await this.#raw.undeleteVm(undeleteRequest(vm, options, only), retry));
  }

  async rename(vm: string, name: string, options: ChangeOptions = {}): Promise<PlannedVm> {
    return planned(await this.#raw.renameVm(renameRequest(vm, name, options, only), retry));
  }

  async extend(vm: string, ttlMs: number | null, options: ChangeOptions = {}): Promise<PlannedVm> {
    return planned(await this.#raw.extendVm(extendRequest(vm, ttlMs, options, only), retry));
  }

  async update(vm: string, update: VmUpdate, options: ChangeOptions = {}): Promise<PlannedVm> {
    return planned(await this.#raw.updateVm(updateRequest(vm, update, options, only), retry));
  }
}

const only = { validateOnly: true };
const retry = { retry: true };

function planned({ vm, plan }: { readonly vm?: Vm | undefined; readonly plan?: Plan | undefined }): PlannedVm {
  return { vm: present(vm), plan: present(plan) };
}
