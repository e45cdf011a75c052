// Pitwall's client for programs: browsers and Node alike.
export { Pitwall, type NodeChange, type PitwallOptions } from "./pitwall.ts";
export type { Fleet } from "./fleet.ts";
export type { AuditLog, AuditQuery } from "./audit-log.ts";
export type { CreateApiTokenOptions, ProjectChanges, Projects, RegistrySecret } from "./projects.ts";
export type { Sessions } from "./sessions.ts";
export type { ExecInput, ExecOptions, ExecOutput } from "./guest-streams.ts";
export { discover, type Discovery } from "./discover.ts";
export { PitwallRpcError, WaitTimeoutError } from "./errors.ts";
export type { Vms, VmChange, WaitOptions, WatchOptions } from "./vms.ts";
export type { ChangeOptions, CreateVmOptions, ListVmsOptions, VmUpdate } from "./vm-requests.ts";
export type { PlannedVm, VmPlans } from "./vm-plans.ts";
// Each message is a type and, under the same name, its codec: `Vm.toJSON(vm)`.
export {
  Asked,
  DeniedFlow,
  DeniedFlow_By,
  Desired,
  Egress,
  EgressProtocol,
  EgressRule,
  EgressVerdict,
  Exit,
  Health,
  Ingress,
  ListDeniedFlowsResponse,
  NodeLossPolicy,
  NodeRejection,
  Phase,
  Placement,
  PlacementStrategy,
  Plan,
  RestartPolicy,
  Vm,
  VmSpec,
  VmTimings,
} from "./gen/pitwall/v1/vm.ts";
export { CreateJoinTokenResponse, DrainAction, DrainStep, Gateway, JoinRole, Node, NodeState } from "./gen/pitwall/v1/node.ts";
export { GetProfileResponse, SshKey } from "./gen/pitwall/v1/profile.ts";
export {
  CheckImageResponse,
  CollectGarbageResponse,
  DeleteImageResponse,
  HeldImage,
  ImageField,
  NodeFreed,
  Parity,
  PullImageResponse,
  PullState,
  ResolveImageResponse,
} from "./gen/pitwall/v1/image.ts";
export {
  ExecInfo,
  ExecStart,
  FileInfo,
  FileKind,
  GetStatsResponse,
  ReadLogsResponse,
  ReadLogsResponse_Stream as LogStream,
  WatchFilesResponse,
  WatchFilesResponse_Change as FileChange,
} from "./gen/pitwall/v1/guest.ts";
export {
  ApiToken,
  CreateApiTokenResponse,
  Project,
  ProjectMember,
  ProjectRole,
  Quota,
  RegistryCredential,
} from "./gen/pitwall/v1/project.ts";
export { AuditEntry, AuditHead } from "./gen/pitwall/v1/audit.ts";
export { Lock, Recording, RecordingState, Session } from "./gen/pitwall/v1/session.ts";
