// VmService: the API's words around Vms.
import type { VmServiceImplementation, WatchVmsResponse } from "@pitwall/proto/pitwall/v1/vm.ts";
import type { Failpoints } from "@pitwall/runtime";
import type { IngressGrants } from "../access/ingress-grants.ts";
import type { LiveCalls } from "../access/live-calls.ts";
import type { SshCertificates } from "../access/ssh-certificates.ts";
import type { DeniedFlows } from "../vm/denied-flows.ts";
import type { Vms } from "../vm/vms.ts";
import { userOf, type CallerContext } from "./identity.ts";
import { pageLimit } from "./page.ts";
import { checkWatch, waitVm, watchVms } from "./watch.ts";
import { whileMember } from "./while-member.ts";

export interface VmServiceParts {
  readonly vms: Vms;
  readonly certificates: Pick<SshCertificates, "issue">;
  readonly grants: Pick<IngressGrants, "issue">;
  readonly deniedFlows: DeniedFlows;
  readonly roles: LiveCalls;
  readonly failpoints: Failpoints;
}

export function vmService({
  vms,
  certificates,
  grants,
  deniedFlows,
  roles,
  failpoints,
}: VmServiceParts): VmServiceImplementation<CallerContext> {
  const { moves } = vms;
  return {
    async createVm(request, context) {
      const answer = await vms.create(userOf(context), request, context.signal);
      // Behind the answer, which nobody can call back.
      setImmediate(() => void failpoints.at("create.api.replied", answer.vm?.id).catch(() => undefined));
      return answer;
    },
    getVm: async ({ vm, minGeneration }, context) => ({ vm: await vms.get(userOf(context), vm, minGeneration) }),
    listVms: (request, context) => vms.list(userOf(context), request, pageLimit(request.pageSize)),
    async *watchVms(request, context) {
      checkWatch(request);
      yield* whileMember(vms, roles, userOf(context), request, context.signal, (signal) => watchVms(vms, userOf(context), request, signal));
    },
    startVm: (request, context) => moves.start(userOf(context), request),
    pauseVm: (request, context) => moves.pause(userOf(context), request),
    suspendVm: (request, context) => moves.suspend(userOf(context), request),
    stopVm: (request, context) => moves.stop(userOf(context), request),
    restartVm: (request, context) => moves.restart(userOf(context), request),
    deleteVm: (request, context) => moves.delete(userOf(context), request),
    undeleteVm: (request, context) => moves.undelete(userOf(context), request),
    updateVm: (request, context) => moves.update(userOf(context), request),
    renameVm: (request, context) => moves.rename(userOf(context), request),
    extendVm: (request, context) => moves.extend(userOf(context), request),
    listDeniedFlows: ({ vm }, context) => deniedFlows.list(userOf(context), vm, context.signal),
    issueSshCertificate: (request, context) => certificates.issue(userOf(context), request),
    issueIngressGrant: (request, context) => grants.issue(userOf(context), request),
    async waitVm(request, context) {
      const caller = userOf(context);
      const looked = { vm: request.vm, project: "", resumeToken: "" };
      const watch = (): AsyncIterable<WatchVmsResponse> =>
        whileMember(vms, roles, caller, looked, context.signal, (signal) => watchVms(vms, caller, looked, signal));
      return { vm: await waitVm(watch(), request) };
    },
  };
}
