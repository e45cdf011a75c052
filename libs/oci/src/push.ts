// Pushing a local image to a registry (distribution-spec 1.1, "pushing blobs", "pushing manifests"): each blob whole, the manifest last.
import { PitwallError, invalid, type Clock } from "@pitwall/runtime";
import type { CredentialsFor } from "./credentials.ts";
import { openPushable, type PushableBlob } from "./pushable.ts";
import { parseReference, type ImageReference } from "./reference.ts";
import { denied, SignIn } from "./sign-in.ts";
import { drop, Transport, unreachable, type Hosts, type Reply } from "./transport.ts";

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

/** `tag` picks one of several images at `path`. Throws `invalid` for a name that is none, `denied`, `unavailable`, and what reading the image throws. */
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
    this.#signIn = new SignIn(this.#transport, options.credentialsFor, "pull,push");
    this.#root = new URL(`${this.#transport.schemeOf(target.host)}://${target.host}/v2/${target.repository}/`);
  }

  async has({ digest }: PushableBlob, signal: AbortSignal): Promise<boolean> {
    const reply = await this.#ask("HEAD", `blobs/${digest}`, {}, undefined, signal);
    drop(reply);
    return reply.status === 200;
  }

  async upload(blob: PushableBlob, signal: AbortSignal): Promise<void> {
    const begun = await this.#ask("POST", "blobs/uploads/", { "content-length": "0" }, undefined, signal);
    drop(begun);
    const location = begun.headers["location"];
    if (begun.status !== 202 || typeof location !== "string" || !URL.canParse(location, this.#root)) throw await this.#refusal(begun);
    const place = new URL(location, new URL("blobs/uploads/", this.#root));
    place.searchParams.set("digest", blob.digest);
    // Storage that the registry sends us to must not learn who we are.
    const authorization = place.origin === this.#root.origin ? this.#signIn.header(this.#target) : undefined;
    const headers = {
      "content-type": "application/octet-stream",
      "content-length": String(blob.sizeBytes),
      ...(authorization !== undefined && { authorization }),
    };
    const reply = await this.#transport.send(place, "PUT", headers, await blob.open(), signal);
    drop(reply);
    if (reply.status !== 201 && reply.status !== 204) throw await this.#refusal(reply);
  }

  async putManifest(tag: string, manifest: Buffer, mediaType: string, signal: AbortSignal): Promise<void> {
    const reply = await this.#ask("PUT", `manifests/${tag}`, { "content-type": mediaType }, manifest, signal);
    drop(reply);
    if (reply.status !== 201) throw await this.#refusal(reply);
  }

  /** Signs in when the registry wants that. A body must be one that can be sent twice. */
  async #ask(
    method: "HEAD" | "POST" | "PUT",
    path: string,
    headers: Readonly<Record<string, string>>,
    body: Buffer | undefined,
    signal: AbortSignal,
  ): Promise<Reply> {
    const send = (): Promise<Reply> => {
      const authorization = this.#signIn.header(this.#target);
      const all = { ...headers, ...(authorization !== undefined && { authorization }) };
      return this.#transport.send(new URL(path, this.#root), method, all, body, signal);
    };
    const used = this.#signIn.header(this.#target);
    const reply = await send();
    if (reply.status !== 401) return reply;
    drop(reply);
    await this.#signIn.answer(this.#target, used, String(reply.headers["www-authenticate"] ?? ""), signal);
    return send();
  }

  async #refusal({ status }: Reply): Promise<PitwallError> {
    const { host } = this.#target;
    if (status === 401 || status === 403) return denied(this.#target, (await this.#options.credentialsFor(host)) !== undefined);
    if (status === 400 || status === 404 || status === 405)
      return new PitwallError("state", `the registry ${host} does not take the image: it answers ${status}`, {
        reason: "REGISTRY_REFUSED",
      });
    return unreachable(host, new Error(`it answers ${status}`));
  }
}
