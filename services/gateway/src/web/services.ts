// The services that users may call through the web port.
import { AuditServiceDefinition } from "@pitwall/proto/pitwall/v1/audit.ts";
import { GuestServiceDefinition } from "@pitwall/proto/pitwall/v1/guest.ts";
import { ImageServiceDefinition } from "@pitwall/proto/pitwall/v1/image.ts";
import { NodeServiceDefinition } from "@pitwall/proto/pitwall/v1/node.ts";
import { ProfileServiceDefinition } from "@pitwall/proto/pitwall/v1/profile.ts";
import { ProjectServiceDefinition } from "@pitwall/proto/pitwall/v1/project.ts";
import { SessionServiceDefinition } from "@pitwall/proto/pitwall/v1/session.ts";
import { VmServiceDefinition } from "@pitwall/proto/pitwall/v1/vm.ts";

interface Service {
  readonly fullName: string;
  readonly methods: Readonly<Record<string, { readonly name: string; readonly requestStream: boolean; readonly responseStream: boolean }>>;
}

/** Served by the controller's API to users. Members' services are not for this door. */
export const apiServices: readonly Service[] = [
  VmServiceDefinition,
  NodeServiceDefinition,
  ImageServiceDefinition,
  ProfileServiceDefinition,
  ProjectServiceDefinition,
  SessionServiceDefinition,
  AuditServiceDefinition,
];

/** Served by powerunit in each VM. */
export const guestService: Service = GuestServiceDefinition;
