// Who may call what: one row per method of the contract. What has no row is refused, and fails `npm run check`.
import type { PeerRole } from "../ca/ca.ts";
import type { ProjectRole } from "../projects/principal.ts";

/**
 * `anyone`: the call itself proves something (a join token). `user`: a person or an API token. `person`: a JWT; what a token made
 * would outlive it, or is its maker's alone. `admin`: a JWT of an administrator. A role: its certificate, on the link port.
 */
export type Who = "anyone" | "user" | "person" | "admin" | PeerRole | "member";

/** What a call touches: a project, a VM of one, the caller's own things, the fleet, or nothing of anybody's. */
export type Scope = "none" | "self" | "project" | "vm" | "fleet";

export interface Policy {
  readonly who: Who;
  readonly scope: Scope;
  /** What the caller must be in the project; use cases ask for the same when they look an object up. Undefined: no project is involved. */
  readonly least: ProjectRole | undefined;
  readonly mutates: boolean;
}

const row = (who: Who, scope: Scope, least: ProjectRole | undefined, mutates: boolean): Policy => ({ who, scope, least, mutates });
const reads = (scope: Scope, least: ProjectRole = "viewer"): Policy => row("user", scope, least, false);
const changes = (scope: Scope, least: ProjectRole = "member"): Policy => row("user", scope, least, true);
/** An administrator's. */
const fleet = (mutates: boolean): Policy => row("admin", "fleet", undefined, mutates);
/** Of a certificate: what it may speak of is decided where it speaks. */
const by = (who: "member" | PeerRole): Policy => row(who, "fleet", undefined, true);

/** The guest's own methods have rows as well: a gateway says which one it opens a tunnel for. */
const services: Readonly<Record<string, Readonly<Record<string, Policy>>>> = {
  "pitwall.v1.VmService": {
    CreateVm: changes("project"),
    GetVm: reads("vm"),
    ListVms: reads("project"),
    WatchVms: reads("project"),
    StartVm: changes("vm"),
    PauseVm: changes("vm"),
    SuspendVm: changes("vm"),
    StopVm: changes("vm"),
    RestartVm: changes("vm"),
    DeleteVm: changes("vm"),
    UndeleteVm: changes("vm"),
    UpdateVm: changes("vm"),
    RenameVm: changes("vm"),
    ExtendVm: changes("vm"),
    WaitVm: reads("vm"),
    ListDeniedFlows: reads("vm"),
    IssueSshCertificate: row("person", "vm", "member", true),
    IssueIngressGrant: row("person", "vm", "member", true),
  },
  "pitwall.v1.GuestService": {
    Exec: changes("vm"),
    StartExec: changes("vm"),
    AttachExec: changes("vm"),
    ListExecs: changes("vm"),
    ReadLogs: reads("vm"),
    GetStats: reads("vm"),
    StatFile: changes("vm"),
    ListFiles: changes("vm"),
    ReadFile: changes("vm"),
    WriteFile: changes("vm"),
    WatchFiles: changes("vm"),
  },
  "pitwall.v1.ImageService": {
    ResolveImage: reads("project"),
    CheckImage: reads("project"),
    ListImages: reads("none"),
    PullImage: changes("project"),
    DeleteImage: fleet(true),
    CollectGarbage: fleet(true),
  },
  "pitwall.v1.NodeService": {
    GetNode: reads("none"),
    ListNodes: reads("none"),
    WatchNodes: reads("none"),
    CreateJoinToken: fleet(true),
    CordonNode: fleet(true),
    UncordonNode: fleet(true),
    DrainNode: fleet(true),
    FenceNode: fleet(true),
    DeleteNode: fleet(true),
    RevokeNode: fleet(true),
    ListGateways: fleet(false),
    RevokeGateway: fleet(true),
  },
  "pitwall.v1.ProfileService": {
    GetProfile: reads("none"),
    AddSshKey: row("person", "self", undefined, true),
    ListSshKeys: row("person", "self", undefined, false),
    DeleteSshKey: row("person", "self", undefined, true),
  },
  "pitwall.v1.ProjectService": {
    CreateProject: row("person", "self", undefined, true),
    GetProject: reads("project"),
    ListProjects: reads("none"),
    UpdateProject: changes("project", "owner"),
    DeleteProject: row("person", "project", "owner", true),
    ListProjectMembers: reads("project"),
    SetProjectMember: row("person", "project", "owner", true),
    RemoveProjectMember: row("person", "project", "viewer", true), // themselves; owners anybody
    CreateApiToken: row("person", "project", "viewer", true), // of at most their own role
    ListApiTokens: reads("project"),
    RevokeApiToken: row("person", "project", "viewer", true), // their own; owners any
    SetRegistryCredential: changes("project", "owner"),
    ListRegistryCredentials: reads("project"),
    DeleteRegistryCredential: changes("project", "owner"),
  },
  "pitwall.v1.AuditService": {
    ListAuditEntries: reads("project", "owner"),
    GetAuditHead: reads("none"),
    ExportAudit: fleet(false),
  },
  "pitwall.v1.SessionService": {
    ListSessions: reads("project", "member"),
    EndSession: changes("project"), // their own; owners any
    LockVm: changes("vm", "owner"),
    UnlockVm: changes("vm", "owner"),
    LockUser: fleet(true),
    UnlockUser: fleet(true),
    ListLocks: reads("project", "member"),
    ListRecordings: reads("project", "owner"),
    GetRecording: reads("project", "owner"),
    ReadRecording: reads("project", "owner"),
    DeleteRecording: changes("project", "owner"),
  },
  "pitwall.v1.LinkService": { Connect: by("node") },
  "pitwall.v1.AccessService": {
    AuthorizeSsh: by("gateway"),
    OpenTunnel: by("gateway"),
    EndSessions: by("gateway"),
    CheckTunnels: by("gateway"),
    OpenRecording: by("gateway"),
    AppendRecording: by("gateway"),
    CloseRecording: by("gateway"),
  },
  "pitwall.v1.EnrollService": { Join: row("anyone", "none", undefined, true), Renew: by("member"), ListControllers: by("member") },
  "pitwall.v1.RelayService": {
    RelayTunnel: by("controller"),
    RelayImageCommand: by("controller"),
    RelayNetworkCommand: by("controller"),
    RelayAssignments: by("controller"),
  },
  "grpc.reflection.v1.ServerReflection": { ServerReflectionInfo: row("user", "none", undefined, false) },
  "grpc.health.v1.Health": { Check: row("anyone", "none", undefined, false), Watch: row("anyone", "none", undefined, false) },
};

const policies: ReadonlyMap<string, Policy> = new Map(
  Object.entries(services).flatMap(([service, methods]) =>
    Object.entries(methods).map(([method, policy]) => [`/${service}/${method}`, policy] as const),
  ),
);

/** `path` is `/package.Service/Method`. */
export function policyOf(path: string): Policy | undefined {
  return policies.get(path);
}

/** `Service/Method` as token scopes and audit entries spell it. */
export function methodName(path: string): string {
  return path.replace(/^\/(?:pitwall\.v1\.)?/, "");
}

/** Whether an API token can be given the right to call it, by its {@link methodName}. */
export function isTokenMethod(name: string): boolean {
  return policies.get(`/pitwall.v1.${name}`)?.who === "user";
}

/** The role that a method of the guest's API needs, by its {@link methodName}. */
export function guestLeast(name: string): ProjectRole | undefined {
  return name.startsWith("GuestService/") ? policies.get(`/pitwall.v1.${name}`)?.least : undefined;
}
