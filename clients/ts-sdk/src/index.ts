// Pitwall's client for programs: browsers and Node alike.
export { Pitwall, type PitwallOptions } from "./pitwall.ts";
export { discover, type Discovery } from "./discover.ts";
export { PitwallRpcError } from "./errors.ts";
export type { CreateVmOptions, Vms, VmChange, WaitOptions } from "./vms.ts";
export { Desired, Phase, type Exit, type Vm, type VmSpec, type VmTimings } from "./gen/pitwall/v1/vm.ts";
export { JoinRole, NodeState, type Node } from "./gen/pitwall/v1/node.ts";
export type { SshKey } from "./gen/pitwall/v1/profile.ts";
export type { ResolveImageResponse } from "./gen/pitwall/v1/image.ts";
export { ReadLogsResponse_Stream as LogStream, type GetStatsResponse, type ReadLogsResponse } from "./gen/pitwall/v1/guest.ts";
