// VmService: the API's words around Vms.
import { Desired, Phase, type Vm, type VmServiceImplementation, type WatchVmsResponse } from "@pitwall/proto/pitwall/v1/vm.ts";
import { PitwallError } from "@pitwall/runtime";
import type { CallContext } from "nice-grpc";
import type { Principal } from "../projects/principal.ts";
import type { Change } from "../vm/feed.ts";
import type { Vms } from "../vm/vms.ts";
import { userOf, type CallerContext } from "./identity.ts";
import { notYet } from "./not-yet.ts";
import { maxPageSize, pageLimit, pageOf } from "./page.ts";

/** Many clients and proxies give up on a stream that is silent for a minute. */
const keepAliveMs = 25_000;

/** What the handlers use of {@link Vms}. */
export type VmUseCases = Pick<Vms, "create" | "get" | "list" | "setDesired" | "projectIds" | "feed">;

export function vmService(vms: VmUseCases): VmServiceImplementation<CallerContext> {
  return {
    createVm: async (request, context) => ({ vm: await vms.create(userOf(context), request, context.signal) }),
    getVm: async ({ vm }, context) => ({ vm: await vms.get(userOf(context), vm) }),
    async listVms({ pageSize, pageToken }, context) {
      const limit = pageLimit(pageSize);
      const { page, nextPageToken } = pageOf(await vms.list(userOf(context), limit + 1, pageToken), limit);
      return { vms: page, nextPageToken };
    },
    async *watchVms({ vm, resumeToken }, context) {
      yield* watch(vms, userOf(context), vm, resumeToken, context);
    },
    startVm: async ({ vm }, context) => ({ vm: await vms.setDesired(userOf(context), vm, Desired.DESIRED_RUNNING) }),
    stopVm: async ({ vm }, context) => ({ vm: await vms.setDesired(userOf(context), vm, Desired.DESIRED_STOPPED) }),
    deleteVm: async ({ vm }, context) => ({ vm: await vms.setDesired(userOf(context), vm, Desired.DESIRED_DELETED) }),
    restartVm: notYet,
    updateVm: notYet,
    renameVm: notYet,
    extendVm: notYet,
    undeleteVm: notYet,
    async waitVm({ vm, phases }, context) {
      const wanted: ReadonlySet<Phase> = new Set(phases.length > 0 ? phases : [Phase.PHASE_RUNNING]);
      for await (const message of watch(vms, userOf(context), vm, "", context)) {
        if (message.vm && isOver(message.vm, wanted)) return { vm: message.vm };
      }
      throw new PitwallError("unavailable", "the controller stops; wait again", { reason: "DRAINING" });
    },
  };
}

/** A phase counts once it speaks of the latest generation. */
function isOver(vm: Vm, wanted: ReadonlySet<Phase>): boolean {
  if (vm.phase === Phase.PHASE_GONE) return true;
  return vm.observedGeneration === vm.generation && (wanted.has(vm.phase) || vm.phase === Phase.PHASE_FAILED);
}

/** Of all VMs of the subject, or of one. Throws `not-found` for one that is not there. */
async function* watch(
  vms: VmUseCases,
  caller: Principal,
  nameOrId: string,
  resumeToken: string,
  { signal }: CallContext,
): AsyncGenerator<WatchVmsResponse> {
  const { feed } = vms;
  const changes = feed.subscribe(); // before reading, so that nothing falls between
  const keepAlive = setInterval(() => changes.push({ revision: 0n, projectId: "", vm: keepAliveVm }), keepAliveMs);
  signal.addEventListener("abort", () => changes.close(), { once: true });
  try {
    const start = feed.revision;
    const missed = resumeToken === "" ? undefined : feed.since(resumeToken);
    const only = nameOrId === "" ? undefined : (await vms.get(caller, nameOrId)).id;
    const projects = only === undefined ? await vms.projectIds(caller, "") : new Set<string>();
    const isTheirs = ({ vm, projectId }: Change): boolean => (only === undefined ? projects.has(projectId) : vm.id === only);
    const sent = new Map<string, bigint>();
    if (missed) {
      for (const change of missed) if (isTheirs(change)) yield { vm: change.vm, resumeToken: feed.token(change.revision), synced: false };
    } else {
      for (const vm of await current(vms, caller, only)) {
        sent.set(vm.id, BigInt(vm.etag));
        yield { vm, resumeToken: feed.token(start), synced: false };
      }
    }
    yield { vm: undefined, resumeToken: feed.token(start), synced: true };
    for await (const change of changes) {
      const { revision, vm } = change;
      if (vm === keepAliveVm) yield { vm: undefined, resumeToken: "", synced: false };
      else if (isTheirs(change) && revision > (sent.get(vm.id) ?? 0n)) yield { vm, resumeToken: feed.token(revision), synced: false };
    }
  } finally {
    clearInterval(keepAlive);
    changes.close();
  }
}

const keepAliveVm = {} as Vm; // compared by identity, never sent

async function current(vms: VmUseCases, caller: Principal, only: string | undefined): Promise<Vm[]> {
  if (only !== undefined) {
    const vm = await vms.get(caller, only).catch(() => undefined);
    return vm ? [vm] : [];
  }
  const all: Vm[] = [];
  for (
    let page = await vms.list(caller, maxPageSize, "");
    page.length > 0;
    page = await vms.list(caller, maxPageSize, all.at(-1)?.name ?? "")
  )
    all.push(...page);
  return all;
}
