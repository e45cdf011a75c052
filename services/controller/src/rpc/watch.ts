// WatchVms and WaitVm: the current VMs, then what changes.
import { Phase, type Vm, type WaitVmRequest, type WatchVmsRequest, type WatchVmsResponse } from "@pitwall/proto/pitwall/v1/vm.ts";
import { invalid, PitwallError, planted } from "@pitwall/runtime";
import type { Principal } from "../projects/principal.ts";
import { isBehind, type EventPosition } from "../store/vm-events.ts";
import type { VmChange } from "../vm/feed.ts";
import type { Vms } from "../vm/vms.ts";

/** Many clients and proxies give up on a stream that is silent for a minute. */
const keepAliveMs = 25_000;

/** Throws `invalid` for a watch of a VM and of a project. */
export function checkWatch({ vm, project }: Pick<WatchVmsRequest, "vm" | "project">): void {
  if (vm !== "" && project !== "") throw invalid("project", "cannot be given with vm, which says it: PROJECT/NAME");
}

/** Throws `not-found` for a VM or project that is not there, `out-of-range` for a token that is too old. */
export async function* watchVms(
  vms: Vms,
  caller: Principal,
  { vm: reference, resumeToken, project }: WatchVmsRequest,
  signal: AbortSignal,
): AsyncGenerator<WatchVmsResponse> {
  const { feed } = vms;
  const from = resumeToken === "" ? undefined : feed.read(resumeToken).position;
  const changes = feed.subscribe<EventPosition>(); // before reading, so that nothing falls between
  const keepAlive = setInterval(() => changes.push(feed.position), keepAliveMs);
  const onAbort = (): void => changes.close();
  signal.addEventListener("abort", onAbort, { once: true });
  try {
    const start = feed.position;
    const watched = reference === "" ? undefined : await vms.watched(caller, reference, resumeToken);
    const only = watched?.id;
    const token = (position: EventPosition): string => feed.token(position, watched);
    const projects = only === undefined ? await vms.projectIds(caller, project) : new Set<string>();
    const isTheirs = (change: VmChange): boolean => (only === undefined ? projects.has(change.projectId) : change.vm.id === only);
    const seen = new Map<string, bigint>();
    if (!from) {
      // Without tokens: a list that breaks off must begin anew.
      for await (const vm of watched ? one(vms, caller, watched) : vms.all(projects)) {
        seen.set(vm.id, BigInt(vm.etag));
        yield { vm, resumeToken: "", synced: false };
      }
      // Behind all that was just read: from a token before that, older states would be shown again.
      if (!(await feed.caughtUp(signal))) return;
    }
    const base = from ?? start;
    const goal = isBehind(feed.position, base) ? base : feed.position;
    let skips = from && planted("watch-skips-on-resume") ? 1 : 0;
    for await (const change of feed.between(base, goal))
      if (skips-- <= 0 && isTheirs(change) && change.revision > (seen.get(change.vm.id) ?? 0n))
        yield { vm: change.vm, resumeToken: from ? token(change.position) : "", synced: false };
    yield { vm: undefined, resumeToken: token(goal), synced: true };
    for await (const change of changes) {
      if (!("vm" in change)) yield { vm: undefined, resumeToken: token(change), synced: false };
      else if (isTheirs(change) && isBehind(goal, change.position))
        yield { vm: change.vm, resumeToken: token(change.position), synced: false };
    }
  } finally {
    clearInterval(keepAlive);
    signal.removeEventListener("abort", onAbort);
    changes.close();
  }
}

/** The VM, or its last word if it was gone before; if it is since, its end is among the changes. */
async function* one(vms: Vms, caller: Principal, { id, gone }: { readonly id: string; readonly gone?: Vm }): AsyncGenerator<Vm> {
  if (gone) {
    yield gone;
    return;
  }
  try {
    yield await vms.get(caller, id);
  } catch (error) {
    if (!(error instanceof PitwallError && error.fault === "not-found")) throw error;
  }
}

/** Of a watch of one VM: the VM in one of the phases that are waited for, failed, or gone. Throws `unavailable` when the controller stops first. */
export async function waitVm(watch: AsyncIterable<WatchVmsResponse>, { phases, minGeneration }: WaitVmRequest): Promise<Vm> {
  const wanted: ReadonlySet<Phase> = new Set(phases.length > 0 ? phases : [Phase.PHASE_RUNNING]);
  for await (const message of watch) if (message.vm && isOver(message.vm, wanted, minGeneration)) return message.vm;
  throw new PitwallError("unavailable", "the controller stops; wait again", { reason: "DRAINING" });
}

/** A phase counts once it speaks of the latest generation. */
function isOver(vm: Vm, wanted: ReadonlySet<Phase>, minGeneration: bigint): boolean {
  if (vm.phase === Phase.PHASE_GONE) return true;
  if (vm.observedGeneration !== vm.generation || vm.generation < minGeneration) return false;
  return wanted.has(vm.phase) || vm.phase === Phase.PHASE_FAILED;
}
