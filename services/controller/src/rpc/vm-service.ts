// VmService: the API's words around Vms.
import type { VmServiceImplementation } from "@pitwall/proto/pitwall/v1/vm.ts";
import type { Vms } from "../vm/vms.ts";
import { userOf, type CallerContext } from "./identity.ts";
import { notYet } from "./not-yet.ts";
import { pageLimit, pageOf } from "./page.ts";
import { waitVm, watchVms } from "./watch.ts";

export function vmService(vms: Vms): VmServiceImplementation<CallerContext> {
  return {
    createVm: (request, context) => vms.create(userOf(context), request, context.signal),
    getVm: async ({ vm }, context) => ({ vm: await vms.get(userOf(context), vm) }),
    async listVms({ project, pageSize, pageToken }, context) {
      const limit = pageLimit(pageSize);
      const { page, nextPageToken } = pageOf(await vms.list(userOf(context), project, limit + 1, pageToken), limit);
      return { vms: page, nextPageToken };
    },
    watchVms: (request, context) => watchVms(vms, userOf(context), request, context.signal),
    startVm: (request, context) => vms.start(userOf(context), request),
    stopVm: (request, context) => vms.stop(userOf(context), request),
    deleteVm: (request, context) => vms.delete(userOf(context), request),
    restartVm: notYet,
    updateVm: notYet,
    renameVm: notYet,
    extendVm: notYet,
    undeleteVm: notYet,
    waitVm: async (request, context) => ({ vm: await waitVm(vms, userOf(context), request, context.signal) }),
  };
}
