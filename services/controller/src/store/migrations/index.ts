// The schema, step by step, in this order. A step that was released is never changed.
import { First } from "./0001-first.ts";
import { ServiceState } from "./0002-service-state.ts";
import { Projects } from "./0003-projects.ts";
import { Mutations } from "./0004-mutations.ts";
import { NodeSessions } from "./0005-node-sessions.ts";
import { MovingVms } from "./0006-moving-vms.ts";
import { ApiTokens } from "./0010-api-tokens.ts";
import { ProjectUsage } from "./0011-project-usage.ts";
import { RegistryCredentials } from "./0012-registry-credentials.ts";
import { AuditTree } from "./0013-audit-tree.ts";
import { JoinTokenUses } from "./0020-join-token-uses.ts";
import { ParkedVms } from "./0030-parked-vms.ts";
import { SecretsKey } from "./0041-secrets-key.ts";
import { AccessSessions } from "./0042-access-sessions.ts";
import { Ingress } from "./0043-ingress.ts";
import { Recordings } from "./0050-recordings.ts";
import { Locks } from "./0051-locks.ts";
import { HostTombstones } from "./0060-host-tombstones.ts";
import { SshLogins } from "./0070-ssh-logins.ts";
import { SuspendedVms } from "./0080-suspended-vms.ts";
import { Addresses } from "./0090-addresses.ts";
import { HostKeys } from "./0100-host-keys.ts";

export const migrations = [
  { name: "0001_first", class: First },
  { name: "0002_service_state", class: ServiceState },
  { name: "0003_projects", class: Projects },
  { name: "0004_mutations", class: Mutations },
  { name: "0005_node_sessions", class: NodeSessions },
  { name: "0006_moving_vms", class: MovingVms },
  { name: "0010_api_tokens", class: ApiTokens },
  { name: "0011_project_usage", class: ProjectUsage },
  { name: "0012_registry_credentials", class: RegistryCredentials },
  { name: "0013_audit_tree", class: AuditTree },
  { name: "0020_join_token_uses", class: JoinTokenUses },
  { name: "0030_parked_vms", class: ParkedVms },
  { name: "0041_secrets_key", class: SecretsKey },
  { name: "0042_access_sessions", class: AccessSessions },
  { name: "0043_ingress", class: Ingress },
  { name: "0050_recordings", class: Recordings },
  { name: "0051_locks", class: Locks },
  { name: "0060_host_tombstones", class: HostTombstones },
  { name: "0070_ssh_logins", class: SshLogins },
  { name: "0080_suspended_vms", class: SuspendedVms },
  { name: "0090_addresses", class: Addresses },
  { name: "0100_host_keys", class: HostKeys },
];
