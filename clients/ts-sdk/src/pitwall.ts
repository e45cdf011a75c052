// The client: one object per endpoint and user.
import { createChannel, createClientFactory, type Client } from "nice-grpc-web";
import { Metadata } from "nice-grpc-common";
import { errorDetailsClientMiddleware } from "nice-grpc-error-details";
import { isPassing, endWithReader, present, retries, typedErrors, withToken, type CallExtras, reconnectMs, sleep } from "./calls.ts";
import { openEndpoints } from "./endpoints.ts";
import { PitwallRpcError } from "./errors.ts";
import {
  ImageServiceDefinition,
  type CheckImageResponse,
  type CollectGarbageResponse,
  type DeleteImageResponse,
  type HeldImage,
  type PullImageResponse,
  type ResolveImageResponse,
} from "./gen/pitwall/v1/image.ts";
import {
  ExecStart,
  GuestServiceDefinition,
  type ExecInfo,
  type FileInfo,
  type GetStatsResponse,
  type ReadLogsResponse,
  type WatchFilesResponse,
} from "./gen/pitwall/v1/guest.ts";
import { JoinRole, NodeServiceDefinition, type CreateJoinTokenResponse, type Node } from "./gen/pitwall/v1/node.ts";
import { ProfileServiceDefinition, type GetProfileResponse, type SshKey } from "./gen/pitwall/v1/profile.ts";
import { VmServiceDefinition, type Vm } from "./gen/pitwall/v1/vm.ts";
import { Fleet } from "./fleet.ts";
import { AuditLog } from "./audit-log.ts";
import { AuditServiceDefinition } from "./gen/pitwall/v1/audit.ts";
import { ProjectServiceDefinition } from "./gen/pitwall/v1/project.ts";
import { Projects } from "./projects.ts";
import { SessionServiceDefinition } from "./gen/pitwall/v1/session.ts";
import { Sessions } from "./sessions.ts";
import { attachExec, exec, writeFile, type ExecInput, type ExecOptions, type ExecOutput } from "./guest-streams.ts";
import { ingressDomain, ingressUrl } from "./ingress-url.ts";
import { anyTransport } from "./socket-transport.ts";
import { Vms } from "./vms.ts";

export interface PitwallOptions {
  /**
   * The gateway, such as `https://pitwall.example.com`, or several of one installation: when one does not answer, calls that may be made again,
   * watches, and all later calls go to the next.
   */
  endpoint: string | readonly string[];
  /** An access token, an API token, or how to get one; asked before each call. */
  token: string | (() => Promise<string>);
  /** Told why a call is made again, so that a program can say what it waits for. */
  onRetry?: (error: PitwallRpcError) => void;
}

/** All calls throw `PitwallRpcError`. Needs no closing: each call is a request of its own. */
/** A node as it now is, or as it was when it was removed. */
export interface NodeChange {
  readonly node: Node;
  readonly removed: boolean;
}

export class Pitwall {
  readonly vms: Vms;
  /** For administrators. */
  readonly fleet: Fleet;
  readonly projects: Projects;
  readonly sessions: Sessions;
  readonly audit: AuditLog;
  readonly #nodes: Client<typeof NodeServiceDefinition, CallExtras>;
  readonly #images: Client<typeof ImageServiceDefinition, CallExtras>;
  readonly #profile: Client<typeof ProfileServiceDefinition, CallExtras>;
  /** The gateway of the moment. */
  readonly #endpoint: () => string;
  readonly #guest: (vm: string) => Client<typeof GuestServiceDefinition, CallExtras>;

  constructor({ endpoint, token, onRetry }: PitwallOptions) {
    const { address, transport, leave, current } = openEndpoints(endpoint, anyTransport());
    const channel = createChannel(address, transport);
    this.#endpoint = current;
    // The one used first is the innermost: errors are typed last, after retries had a look at their codes.
    const factory = createClientFactory()
      .use(errorDetailsClientMiddleware)
      .use(leave)
      .use(endWithReader)
      .use(withToken(typeof token === "string" ? async () => token : token))
      .use(retries((error) => onRetry?.(new PitwallRpcError(error))))
      .use(typedErrors);
    this.vms = new Vms(factory.create(VmServiceDefinition, channel));
    this.projects = new Projects(factory.create(ProjectServiceDefinition, channel));
    this.sessions = new Sessions(factory.create(SessionServiceDefinition, channel));
    this.audit = new AuditLog(factory.create(AuditServiceDefinition, channel));
    this.#nodes = factory.create(NodeServiceDefinition, channel);
    this.fleet = new Fleet(this.#nodes);
    this.#images = factory.create(ImageServiceDefinition, channel);
    this.#profile = factory.create(ProfileServiceDefinition, channel);
    this.#guest = (vm) => factory.create(GuestServiceDefinition, channel, { "*": { metadata: Metadata().set("pitwall-vm", vm) } });
  }

  /**
   * An address that lets whoever opens it in a browser into one port of a VM, for `ttlMs` (default an hour, at most 7 days), and no longer than the
   * caller may enter the VM. `port` is by default the VM's own choice; `path` begins with a slash. Throws when the gateway has no domain for VMs.
   */
  async signedUrl(vm: string, options: { port?: number; ttlMs?: number; path?: string } = {}): Promise<{ url: string; expireTime: Date }> {
    const domain = await ingressDomain(this.#endpoint());
    const { grant, host, expireTime } = await this.vms.issueIngressGrant(vm, options);
    const url = ingressUrl(this.#endpoint(), domain, host, options.path ?? "/");
    url.searchParams.set("pitwall-grant", grant);
    return { url: url.href, expireTime };
  }

  /** The address of a VM's port, for who is let in there: by a bearer token, or because it is public. Throws as {@link signedUrl}. */
  async addressOf({ id, ingress }: Vm, { port = 0, path = "/" }: { port?: number; path?: string } = {}): Promise<string> {
    const host = ingress?.host || id;
    const isOwn = port === 0 || port === (ingress?.port ?? 0);
    return ingressUrl(this.#endpoint(), await ingressDomain(this.#endpoint()), isOwn ? host : `${port}-${host}`, path).href;
  }

  /** All nodes, by name. */
  async listNodes(): Promise<Node[]> {
    const nodes: Node[] = [];
    for (let pageToken = ""; ;) {
      const page = await this.#nodes.listNodes({ pageSize: 500, pageToken }, { retry: true });
      nodes.push(...page.nodes);
      pageToken = page.nextPageToken;
      if (pageToken === "") return nodes;
    }
  }

  /** The current nodes, then what becomes of them. Reconnects; ends when the signal aborts. `onSynced`: all that there were have been given out. */
  async *watchNodes({ onSynced, signal }: { onSynced?: () => void; signal?: AbortSignal } = {}): AsyncGenerator<
    NodeChange,
    void,
    undefined
  > {
    const known = new Map<string, Node>();
    while (!signal?.aborted) {
      const seen = new Set<string>();
      try {
        for await (const { node, synced, removed } of this.#nodes.watchNodes({}, signal ? { signal } : {})) {
          if (node) {
            seen.add(node.id);
            if (removed) known.delete(node.id);
            else known.set(node.id, node);
            yield { node, removed };
          } else if (synced) {
            // What was there before the stream broke off and is not any more.
            for (const lost of [...known.values()].filter(({ id }) => !seen.has(id))) {
              known.delete(lost.id);
              yield { node: lost, removed: true };
            }
            onSynced?.();
          }
        }
      } catch (error) {
        if (signal?.aborted) return;
        if (!isPassing(error)) throw error;
      }
      await sleep(reconnectMs, signal);
    }
  }

  /** `node` is a name or an id. */
  async getNode(node: string): Promise<Node> {
    return present((await this.#nodes.getNode({ node }, { retry: true })).node);
  }

  /** For administrators. Without a name the host chooses it. `uses` is how many hosts it lets in, `labels` what nodes are held to. */
  async createJoinToken(
    role: "node" | "gateway",
    name = "",
    uses = 1,
    labels: Readonly<Record<string, string>> = {},
  ): Promise<CreateJoinTokenResponse> {
    const wireRole = role === "node" ? JoinRole.JOIN_ROLE_NODE : JoinRole.JOIN_ROLE_GATEWAY;
    const requestId = crypto.randomUUID();
    return this.#nodes.createJoinToken({ role: wireRole, name, uses, labels: { ...labels }, requestId }, { retry: true });
  }

  /** `project`, a name or an id, is whose registry credentials are used; default: the personal project. */
  async resolveImage(image: string, { project = "" }: { project?: string } = {}): Promise<ResolveImageResponse> {
    return this.#images.resolveImage({ image, project }, { retry: true });
  }

  /** What a VM makes of each field of the image's configuration. */
  async checkImage(image: string, { project = "" }: { project?: string } = {}): Promise<CheckImageResponse> {
    return this.#images.checkImage({ image, project }, { retry: true });
  }

  /** The images that nodes hold, by digest, and the names of nodes that could not be asked. */
  async listImages(): Promise<{ images: HeldImage[]; skippedNodes: string[] }> {
    const images: HeldImage[] = [];
    for (let pageToken = ""; ;) {
      const page = await this.#images.listImages({ pageSize: 500, pageToken }, { retry: true });
      images.push(...page.images);
      pageToken = page.nextPageToken;
      if (pageToken === "") return { images, skippedNodes: page.skippedNodes };
    }
  }

  /** Has a node, or all, make an image ready. Ends when each has said DONE or FAILED; when the signal aborts, nodes go on. */
  pullImage(image: string, options: { node?: string; project?: string; signal?: AbortSignal } = {}): AsyncIterable<PullImageResponse> {
    const { node = "", project = "", signal } = options;
    return this.#images.pullImage({ image, node, project }, signal ? { signal } : {});
  }

  /** For administrators. `image` is a digest or a reference; one that a VM uses is refused. */
  async deleteImage(image: string): Promise<DeleteImageResponse> {
    return this.#images.deleteImage({ image, requestId: crypto.randomUUID() }, { retry: true });
  }

  /** For administrators: frees the images and layers that no VM uses. With `dryRun`, only says what they are. */
  async collectGarbage({ dryRun = false }: { dryRun?: boolean } = {}): Promise<CollectGarbageResponse> {
    return this.#images.collectGarbage({ dryRun });
  }

  async getProfile(): Promise<GetProfileResponse> {
    return this.#profile.getProfile({}, { retry: true });
  }

  /** `publicKey` is a line of a `.pub` file. */
  async addSshKey(publicKey: string): Promise<SshKey> {
    return present((await this.#profile.addSshKey({ publicKey, requestId: crypto.randomUUID() }, { retry: true })).key);
  }

  async listSshKeys(): Promise<SshKey[]> {
    return (await this.#profile.listSshKeys({}, { retry: true })).keys;
  }

  async deleteSshKey(fingerprint: string): Promise<void> {
    await this.#profile.deleteSshKey({ fingerprint, requestId: crypto.randomUUID() }, { retry: true });
  }

  /** What the image's own process wrote, all that is kept or only what came at `since` or later; with `follow`, until the signal aborts. */
  readLogs(
    vm: string,
    options: { follow?: boolean; tailLines?: number; since?: Date; signal?: AbortSignal } = {},
  ): AsyncIterable<ReadLogsResponse> {
    const { signal, since, follow = false, tailLines = 0 } = options;
    return this.#guest(vm).readLogs({ follow, tailLines, ...(since && { since }) }, signal ? { signal } : {});
  }

  /** Runs a command in the VM: its output, and last how it ended. Leaving it ends the command. */
  exec(vm: string, start: Partial<ExecStart> & Pick<ExecStart, "argv">, options: ExecOptions = {}): AsyncIterable<ExecOutput> {
    return exec(this.#guest(vm), start, options);
  }

  /** Output and end of a command of {@link startExec}, from what is kept of it on; leaving ends nothing. */
  attachExec(
    vm: string,
    execId: string,
    options: { input?: AsyncIterable<ExecInput | { stdinEnd: true }>; signal?: AbortSignal } = {},
  ): AsyncIterable<ExecOutput> {
    return attachExec(this.#guest(vm), execId, options);
  }

  /** Writes a file of the VM: others see the old content, or all of the new. `mode` is 0644 by default. */
  async writeFile(
    vm: string,
    path: string,
    content: Uint8Array | AsyncIterable<Uint8Array>,
    options: { mode?: number; user?: string; signal?: AbortSignal } = {},
  ): Promise<FileInfo> {
    return writeFile(this.#guest(vm), path, content, options);
  }

  /** Starts a command that goes on by itself; its id. Its end is seen in {@link listExecs}. */
  async startExec(vm: string, start: Partial<ExecStart> & Pick<ExecStart, "argv">): Promise<string> {
    return (await this.#guest(vm).startExec({ start: ExecStart.fromPartial(start) })).execId;
  }

  /** Commands of {@link startExec}, oldest first: those that run, and the latest that have ended. */
  async listExecs(vm: string): Promise<ExecInfo[]> {
    return (await this.#guest(vm).listExecs({})).execs;
  }

  /** About one file of the VM, not what a link points to. `path` is absolute. */
  async statFile(vm: string, path: string): Promise<FileInfo> {
    return present((await this.#guest(vm).statFile({ path })).file);
  }

  /** What is in a folder of the VM, by name. */
  async listFiles(vm: string, path: string): Promise<FileInfo[]> {
    const files: FileInfo[] = [];
    for await (const page of this.#guest(vm).listFiles({ path })) files.push(...page.files);
    return files;
  }

  /** The bytes of a file of the VM, in chunks. */
  async *readFile(vm: string, path: string): AsyncGenerator<Uint8Array, void, undefined> {
    for await (const { data } of this.#guest(vm).readFile({ path, offsetBytes: 0n, limitBytes: 0n })) yield data;
  }

  /** Changes in a folder of the VM, or of one file. The first message, which tells none, says that it watches. */
  watchFiles(vm: string, path: string, { signal }: { signal?: AbortSignal } = {}): AsyncIterable<WatchFilesResponse> {
    return this.#guest(vm).watchFiles({ path }, signal ? { signal } : {});
  }

  /** Memory, disk and network as the guest sees them. */
  async getStats(vm: string): Promise<GetStatsResponse> {
    return this.#guest(vm).getStats({});
  }
}
