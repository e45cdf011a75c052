// What a script means for one node: pure, and the same for the same seed however the steps of its VMs are interleaved.
import { seededRandom } from "@pitwall/runtime";
import type { Fault, FaultOf, Script, Span } from "./script.ts";

export interface PlanOptions {
  readonly script: Script;
  readonly seed: string;
  /** The node's name. */
  readonly node: string;
}

export class Plan {
  readonly #options: PlanOptions;
  readonly #ordinals = new Map<string, number>();
  readonly #used = new Map<Fault, number>();

  constructor(options: PlanOptions) {
    this.#options = options;
  }

  /** A VM's number on this node, counted from 1 as they came. */
  ordinal(vmId: string): number {
    const known = this.#ordinals.get(vmId) ?? this.#ordinals.size + 1;
    this.#ordinals.set(vmId, known);
    return known;
  }

  prepareMs(vmId: string): number {
    return this.#draw(this.#options.script.prepare, "prepare", vmId);
  }

  bootMs(vmId: string): number {
    const slow = this.find("slow-boot", vmId);
    return this.#draw(slow?.for ?? this.#options.script.boot, "boot", vmId);
  }

  shutdownMs(vmId: string): number {
    const slow = this.find("slow-shutdown", vmId);
    return this.#draw(slow?.for ?? this.#options.script.shutdown, "shutdown", vmId);
  }

  /** From SIGKILL to the end of the VMM. */
  killMs(vmId: string): number {
    return this.#draw(this.#options.script.kill, "kill", vmId);
  }

  /** From the order to suspend to the memory being on the disk. */
  suspendMs(vmId: string): number {
    return this.#draw(this.#options.script.suspend, "suspend", vmId);
  }

  /** The time of a fault: since the node's start, or of a VM since it was ready. */
  timeMs(span: Span, fault: Fault, vmId?: string): number {
    return this.#draw(span, this.#options.script.faults.indexOf(fault), vmId);
  }

  /** Of this kind, the first that fits the VM. */
  find<K extends Fault["fault"]>(kind: K, vmId: string): FaultOf<K> | undefined {
    return this.#of(kind).find((fault) => this.#fits(fault, vmId));
  }

  /** Of this kind, the first that fits the VM and `also`, and has not happened as often as it should: now it has once more. */
  take<K extends Fault["fault"]>(kind: K, vmId: string | undefined, also: (fault: FaultOf<K>) => boolean): FaultOf<K> | undefined {
    const isLeft = (fault: Fault): boolean => (this.#used.get(fault) ?? 0) < ("times" in fault ? fault.times : 1);
    const found = this.#of(kind).find((fault) => also(fault) && isLeft(fault) && (vmId === undefined || this.#fits(fault, vmId)));
    if (found) this.#used.set(found, (this.#used.get(found) ?? 0) + 1);
    return found;
  }

  /** Those of the node itself. */
  ofNode<K extends "node-loss" | "clock-jump">(kind: K): FaultOf<K>[] {
    return this.#of(kind);
  }

  #of<K extends Fault["fault"]>(kind: K): FaultOf<K>[] {
    const isKind = (fault: Fault): fault is FaultOf<K> => fault.fault === kind;
    return this.#options.script.faults.filter(isKind).filter(({ nodes }) => this.#isNode(nodes));
  }

  #isNode(glob: string): boolean {
    return new RegExp(`^${glob.replaceAll("*", ".*")}$`).test(this.#options.node);
  }

  #fits(fault: Fault, vmId: string): boolean {
    if (fault.fault === "clock-jump") return false;
    const { vm, every, chance } = { every: undefined, chance: undefined, ...fault };
    const ordinal = this.ordinal(vmId);
    if (vm !== undefined && vm !== ordinal) return false;
    if (every !== undefined && ordinal % every !== 0) return false;
    const { script, seed, node } = this.#options;
    return chance === undefined || seededRandom(seed, node, "chance", script.faults.indexOf(fault), ordinal)() < chance;
  }

  #draw({ fromMs, toMs }: Span, what: string | number, vmId: string | undefined): number {
    if (fromMs === toMs) return fromMs;
    const { seed, node } = this.#options;
    return fromMs + Math.floor(seededRandom(seed, node, what, vmId === undefined ? 0 : this.ordinal(vmId))() * (toMs - fromMs));
  }
}
