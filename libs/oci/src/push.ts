// Pushing a local image to a registry (distribution-spec 1.1, "pushing blobs", "pushing manifests"): blobs first, the manifest last.
import { PitwallError, invalid, type Clock } from "@pitwall/runtime";
import { BlobUpload, defaultPartBytes, type Step } from "./blob-upload.ts";
import type { CredentialsFor } from "./credentials.ts";
import { openPushable, type PushableBlob } from "./pushable.ts";
import { parseReference, type ImageReference } from "./reference.ts";
import { denied, SignIn } from "./sign-in.ts";
import { drop, slowDown, Transport, unreachable, type Change, type Hosts, type Reply } from "./transport.ts";

const actions = "pull,push";

type Headers = Readonly<Record<string, string>>;
type Target = Extract<ImageReference, { kind: "registry" }>;

export interface PushOptions {
  /** `host:port` that are spoken to over plain HTTP. */
  readonly insecureHosts: Hosts;
  /** `host:port` that may be on a private address. */
  readonly privateHosts: Hosts;
  readonly certificates: string | undefined;
  readonly credentialsFor: CredentialsFor;
  readonly clock: Clock;
  /** Told before each blob that the registry does not have. */
  readonly onBlob: (digest: string, sizeBytes: number) => void;
  /** Of a blob in one request; larger ones go in several. Default: 32 MiB. A registry may want larger ones. */
  readonly partBytes?: number;
}

export interface Pushed {
  readonly digest: string;
  /** Of blobs that the registry did not have. */
  readonly sentBytes: number;
}

/**
 * `tag` picks one of several images at `path`. Throws `invalid` for a name that is none, `denied`, `unavailable`, `state` for what the
 * registry does not take, and what reading the image throws.
 */
export async function pushImage(
  path: string,
  tag: string | undefined,
  name: string,
  options: PushOptions,
  signal: AbortSignal,
): Promise<Pushed> {
  const target = parseReference(name, "name");
  if (target.kind !== "registry" || target.digest !== undefined) throw invalid("name", "must be host/name:tag of a registry");
  const { manifest, mediaType, digest, blobs } = await openPushable(path, tag);
  const registry = new Registry(target, options);
  let sentBytes = 0;
  for (const blob of blobs) {
    if (await registry.has(blob, signal)) continue;
    options.onBlob(blob.digest, blob.sizeBytes);
    await registry.upload(blob, signal);
    sentBytes += blob.sizeBytes;
  }
  await registry.putManifest(target.tag ?? "latest", manifest, mediaType, signal);
  return { digest, sentBytes };
}

class Registry {
  readonly #target: Target;
  readonly #transport: Transport;
  readonly #signIn: SignIn;
  readonly #root: URL;
  readonly #options: PushOptions;

  constructor(target: Target, options: PushOptions) {
    this.#target = target;
    this.#options = options;
    this.#transport = new Transport(options);
    this.#signIn = new SignIn(this.#transport, options.credentialsFor, actions);
    this.#root = new URL(`${this.#transport.schemeOf(target.host)}://${target.host}/v2/${target.repository}/`);
  }

  async has({ digest }: PushableBlob, signal: AbortSignal): Promise<boolean> {
    const url = new URL(`blobs/${digest}`, this.#root);
    const reply = await this.#signedIn((headers) => this.#transport.get(url, { method: "HEAD", headers }, signal), signal);
    drop(reply);
    return reply.status === 200;
  }

  /** What arrived of a blob that was cut is not sent again, if the registry says that it has it. */
  async upload(blob: PushableBlob, signal: AbortSignal): Promise<void> {
    const { host } = this.#target;
    using upload = new BlobUpload(blob, {
      uploads: new URL("blobs/uploads/", this.#root),
      partBytes: this.#options.partBytes ?? defaultPartBytes,
      send: (url, make) => this.#send(url, make, signal),
      has: () => this.has(blob, signal),
      signal,
    });
    let step: Step;
    do {
      step = await this.#transport.patiently(host, () => upload.step(), signal);
      drop(step);
    } while (step.isPart === true);
    if (step.status !== 201 && step.status !== 204) throw await this.#refusal(step);
  }

  async putManifest(tag: string, manifest: Buffer, mediaType: string, signal: AbortSignal): Promise<void> {
    const url = new URL(`manifests/${tag}`, this.#root);
    const put = (): Change => ({ method: "PUT", headers: { "content-type": mediaType }, body: manifest });
    const reply = await this.#transport.patiently(this.#target.host, () => this.#send(url, put, signal), signal);
    drop(reply);
    if (reply.status !== 201) throw await this.#refusal(reply);
  }

  /** Storage that the registry sends us to must not learn who we are. */
  async #send(url: URL, make: () => Change, signal: AbortSignal): Promise<Reply> {
    const send = (headers: Headers): Promise<Reply> => {
      const change = make();
      return this.#transport.send(url, { ...change, headers: { ...headers, ...change.headers } }, signal);
    };
    return url.origin === this.#root.origin ? this.#signedIn(send, signal) : send({});
  }

  /** Signs in when the registry wants that: then `send` is called again. */
  async #signedIn(send: (headers: Headers) => Promise<Reply>, signal: AbortSignal): Promise<Reply> {
    const headers = (): Headers => {
      const authorization = this.#signIn.header(this.#target);
      return authorization === undefined ? {} : { authorization };
    };
    const used = this.#signIn.header(this.#target);
    const reply = await send(headers());
    if (reply.status !== 401 || reply.host !== this.#root.host) return reply;
    drop(reply);
    await this.#signIn.answer(this.#target, used, String(reply.headers["www-authenticate"] ?? ""), signal);
    return send(headers());
  }

  async #refusal({ status }: Reply): Promise<PitwallError> {
    const { host } = this.#target;
    if (status === 401 || status === 403) return denied(this.#target, (await this.#options.credentialsFor(host)) !== undefined, actions);
    if (status === 429) return slowDown(host);
    if (status >= 400 && status < 500)
      return new PitwallError("state", `the registry ${host} does not take the image: it answers ${status}`, {
        reason: "REGISTRY_REFUSED",
      });
    return unreachable(host, new Error(`it answers ${status}`));
  }
}
