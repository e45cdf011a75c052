// Pushing a local image to a registry (distribution-spec 1.1, "pushing blobs", "pushing manifests"): each blob whole, the manifest last.
import { Readable } from "node:stream";
import { PitwallError, invalid, type Clock } from "@pitwall/runtime";
import type { CredentialsFor } from "./credentials.ts";
import { verified } from "./inflate.ts";
import { openPushable, type PushableBlob } from "./pushable.ts";
import { parseReference, type ImageReference } from "./reference.ts";
import { denied, SignIn } from "./sign-in.ts";
import { drop, slowDown, Transport, unreachable, type Hosts, type Reply } from "./transport.ts";

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

  /** A blob that did not arrive whole is sent anew: registries differ in what they keep of one that was cut. */
  async upload(blob: PushableBlob, signal: AbortSignal): Promise<void> {
    const reply = await this.#transport.patiently(this.#target.host, () => this.#uploadOnce(blob, signal), signal);
    drop(reply);
    if (reply.status !== 201 && reply.status !== 204) throw await this.#refusal(reply);
  }

  async putManifest(tag: string, manifest: Buffer, mediaType: string, signal: AbortSignal): Promise<void> {
    const url = new URL(`manifests/${tag}`, this.#root);
    const put = (headers: Headers): Promise<Reply> =>
      this.#transport.send(url, { method: "PUT", headers: { ...headers, "content-type": mediaType }, body: manifest }, signal);
    const reply = await this.#transport.patiently(this.#target.host, () => this.#signedIn(put, signal), signal);
    drop(reply);
    if (reply.status !== 201) throw await this.#refusal(reply);
  }

  /** The answer to the blob, or to the request for a place for it when that is refused. */
  async #uploadOnce(blob: PushableBlob, signal: AbortSignal): Promise<Reply> {
    const uploads = new URL("blobs/uploads/", this.#root);
    const begin = (headers: Headers): Promise<Reply> =>
      this.#transport.send(uploads, { method: "POST", headers: { ...headers, "content-length": "0" }, body: undefined }, signal);
    const begun = await this.#signedIn(begin, signal);
    if (begun.status !== 202) return begun;
    drop(begun);
    const location = begun.headers["location"];
    if (typeof location !== "string" || !URL.canParse(location, uploads))
      throw unreachable(this.#target.host, new Error("it names no address for a blob"));
    const place = new URL(location, uploads);
    place.searchParams.set("digest", blob.digest);
    const put = async (headers: Headers): Promise<Reply> => {
      const described = { "content-type": "application/octet-stream", "content-length": String(blob.sizeBytes) };
      const source = await blob.open();
      source.on("error", () => undefined); // told to who reads it
      const body = Readable.from(verified(source as AsyncIterable<Buffer>, blob, signal), { objectMode: false }); // it has no encoding set
      const change = { method: "PUT", headers: { ...headers, ...described }, body } as const;
      return this.#transport.send(place, change, signal).finally(() => {
        body.destroy();
        source.destroy(); // which the body does not do when nothing was read
      });
    };
    // Storage that the registry sends us to must not learn who we are.
    return place.origin === this.#root.origin ? this.#signedIn(put, signal) : put({});
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
