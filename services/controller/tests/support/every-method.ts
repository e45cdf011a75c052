// Every method of the contract, from its descriptor, callable with a request that is right but for what it touches.
import { readFileSync } from "node:fs";
import { fromBinary } from "@bufbuild/protobuf";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { AccessServiceDefinition } from "@pitwall/proto/pitwall/v1/access.ts";
import { AuditServiceDefinition } from "@pitwall/proto/pitwall/v1/audit.ts";
import { EnrollServiceDefinition } from "@pitwall/proto/pitwall/v1/enroll.ts";
import { GuestServiceDefinition } from "@pitwall/proto/pitwall/v1/guest.ts";
import { ImageServiceDefinition } from "@pitwall/proto/pitwall/v1/image.ts";
import { LinkServiceDefinition } from "@pitwall/proto/pitwall/v1/link.ts";
import { NodeServiceDefinition } from "@pitwall/proto/pitwall/v1/node.ts";
import { ProfileServiceDefinition } from "@pitwall/proto/pitwall/v1/profile.ts";
import { ProjectServiceDefinition } from "@pitwall/proto/pitwall/v1/project.ts";
import { RelayServiceDefinition } from "@pitwall/proto/pitwall/v1/relay.ts";
import { SessionServiceDefinition } from "@pitwall/proto/pitwall/v1/session.ts";
import { VmServiceDefinition } from "@pitwall/proto/pitwall/v1/vm.ts";
import { createClient, Metadata, type Channel, type CompatServiceDefinition } from "nice-grpc";
import { policyOf, type Policy } from "../../src/rpc/policy.ts";

const definitions: Readonly<Record<string, CompatServiceDefinition>> = {
  AccessService: AccessServiceDefinition,
  AuditService: AuditServiceDefinition,
  EnrollService: EnrollServiceDefinition,
  GuestService: GuestServiceDefinition,
  ImageService: ImageServiceDefinition,
  LinkService: LinkServiceDefinition,
  NodeService: NodeServiceDefinition,
  ProfileService: ProfileServiceDefinition,
  ProjectService: ProjectServiceDefinition,
  RelayService: RelayServiceDefinition,
  SessionService: SessionServiceDefinition,
  VmService: VmServiceDefinition,
};
/** The node's alone, on the guest channel. */
const notServed = "GuestControlService";

export interface EveryMethod {
  /** `Service/Method` */
  readonly name: string;
  readonly service: string;
  readonly policy: Policy;
  readonly isRequestStream: boolean;
  readonly isResponseStream: boolean;
}

/** Throws for a service that {@link definitions} lacks, and a method without a policy. */
export function everyMethod(): EveryMethod[] {
  const descriptor = fromBinary(FileDescriptorSetSchema, readFileSync(new URL("../../../../gen/descriptor.binpb", import.meta.url)));
  const services = descriptor.file.filter(({ package: name }) => name === "pitwall.v1").flatMap((file) => file.service);
  return services
    .filter(({ name }) => name !== notServed)
    .flatMap((service) =>
      service.method.map((method) => {
        const policy = policyOf(`/pitwall.v1.${service.name}/${method.name}`);
        if (!definitions[service.name] || !policy) throw new Error(`${service.name}/${method.name} is not in the tests, or has no policy`);
        return {
          name: `${service.name}/${method.name}`,
          service: service.name,
          policy,
          isRequestStream: method.clientStreaming,
          isResponseStream: method.serverStreaming,
        };
      }),
    );
}

export interface Touched {
  readonly vm: string;
  readonly project: string;
  /** Subject of the caller. */
  readonly self: string;
  readonly image: string;
}

/** Fields that a request needs besides the object that it names, so that nothing else is in the way. */
const bodies: Readonly<Record<string, (touched: Touched) => object>> = {
  "VmService/CreateVm": ({ image }) => ({ spec: { image } }),
  "VmService/UpdateVm": () => ({ value: { deleteProtection: false }, updateMask: ["delete_protection"] }),
  "VmService/RenameVm": () => ({ name: "renamed" }),
  "VmService/ExtendVm": () => ({ ttl: { seconds: 60n, nanos: 0 } }),
  "VmService/IssueSshCertificate": () => ({
    publicKey: "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
  }),
  "VmService/WatchVms": () => ({ project: "" }),
  "ImageService/ResolveImage": ({ image }) => ({ image }),
  "ImageService/CheckImage": ({ image }) => ({ image }),
  "ImageService/PullImage": ({ image }) => ({ image }),
  "ImageService/DeleteImage": ({ image }) => ({ image }),
  "ImageService/CollectGarbage": () => ({ dryRun: true }),
  "NodeService/CreateJoinToken": () => ({ role: 1 }),
  "SessionService/LockUser": () => ({ subject: "nobody" }),
  "SessionService/UnlockUser": () => ({ subject: "nobody" }),
  "ProfileService/DeleteSshKey": () => ({ fingerprint: "SHA256:none" }),
  "ProjectService/CreateProject": ({ self }) => ({ name: `of-${self}` }),
  "ProjectService/UpdateProject": () => ({ value: { undeleteWindow: { seconds: 60n, nanos: 0 } }, updateMask: ["undelete_window"] }),
  "ProjectService/SetProjectMember": () => ({ subject: "somebody", role: 1 }),
  "ProjectService/RemoveProjectMember": ({ self }) => ({ subject: self }),
  "ProjectService/RevokeApiToken": () => ({ id: "none" }),
  "ProjectService/SetRegistryCredential": () => ({ registry: "r.example", username: "u", secret: { $case: "password", value: "p" } }),
  "ProjectService/DeleteRegistryCredential": () => ({ registry: "none.example" }),
};

/** Calls it once; of a stream, until its first message. Rejects as the call does. Where a request can only ask, it only asks. `more` are fields that it has instead. */
export async function callMethod(
  channel: Channel,
  { name, service, isRequestStream, isResponseStream }: EveryMethod,
  touched: Touched,
  authorization: string | undefined,
  more: object = {},
): Promise<void> {
  const [, method = ""] = name.split("/");
  const metadata = Metadata(authorization === undefined ? {} : { authorization });
  const stop = new AbortController();
  const client = createClient(definitions[service] as CompatServiceDefinition, channel) as unknown as Record<string, Call>;
  const call = client[method.charAt(0).toLowerCase() + method.slice(1)];
  if (!call) throw new Error(`there is no ${name}`);
  const { vm, project } = touched;
  const request = { vm, project, node: "none", validateOnly: true, ...bodies[name]?.(touched), ...more };
  const answer = call(isRequestStream ? nothing() : request, { metadata, signal: stop.signal });
  if (!isResponseStream) return void (await (answer as Promise<unknown>));
  for await (const _ of answer as AsyncIterable<unknown>) break;
  stop.abort();
}

type Call = (request: unknown, options: { metadata: Metadata; signal: AbortSignal }) => Promise<unknown> | AsyncIterable<unknown>;

async function* nothing(): AsyncGenerator<never> {
  // A caller that says nothing.
}
