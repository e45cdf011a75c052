// A client of the OCI distribution API (distribution-spec 1.1): manifests and blobs, from a registry or its mirrors.
import { Readable } from "node:stream";
import { PitwallError } from "@pitwall/runtime";
import { blobStream, checkAnnounced } from "./blob-stream.ts";
import type { CredentialsFor } from "./credentials.ts";
import { acceptedManifests, digestOf, maxDocumentBytes, toImage, verify, type Descriptor } from "./documents.ts";
import { imageNotFound, malformed } from "./image-error.ts";
import type { Asking, LayerDescriptor, ResolvedImage } from "./image.ts";
import type { ImageReference } from "./reference.ts";
import { denied, SignIn } from "./sign-in.ts";
import { drop, slowDown, Transport, unreachable, type Reply, type TransportOptions } from "./transport.ts";

type RegistryReference = Extract<ImageReference, { kind: "registry" }>;

export interface RegistryClient {
  resolve(reference: RegistryReference, spelled: string, signal: AbortSignal, asking: Asking): Promise<ResolvedImage>;
  openBlob(
    reference: RegistryReference,
    layer: LayerDescriptor,
    signal: AbortSignal,
    credentialsFor: CredentialsFor | undefined,
  ): Promise<Readable>;
}

export interface RegistryOptions extends TransportOptions {
  /** For who gives none. */
  readonly credentialsFor: CredentialsFor;
  /** For a registry's host, the hosts that are asked before it, in order. */
  readonly mirrors: ReadonlyMap<string, readonly string[]>;
}

const maxDocumentTries = 3;
/** As they come from the connection, which has more. */
const chunksAhead = 2;

/** Who asks: what was got by signing in with somebody's credentials is used for nobody else. */
interface Caller {
  readonly credentialsFor: CredentialsFor;
  readonly signIn: SignIn;
}

export function openRegistryClient(options: RegistryOptions): RegistryClient {
  const { clock, mirrors } = options;
  const transport = new Transport(options);
  const installation: Caller = { credentialsFor: options.credentialsFor, signIn: new SignIn(transport, options.credentialsFor) };
  const callers = new WeakMap<CredentialsFor, Caller>();

  function callerOf(given: CredentialsFor | undefined): Caller {
    if (given === undefined) return installation;
    const known = callers.get(given);
    if (known) return known;
    const credentialsFor: CredentialsFor = async (host) => (await given(host)) ?? (await options.credentialsFor(host));
    const caller = { credentialsFor, signIn: new SignIn(transport, credentialsFor) };
    callers.set(given, caller);
    return caller;
  }

  async function get(
    caller: Caller,
    reference: RegistryReference,
    path: string,
    headers: Record<string, string>,
    signal: AbortSignal,
  ): Promise<Reply> {
    const { signIn } = caller;
    const { host, repository } = reference;
    const url = new URL(`${transport.schemeOf(host)}://${host}/v2/${repository}/${path}`);
    const send = (): Promise<Reply> => {
      const authorization = signIn.header(reference);
      return transport.get(url, { headers: { ...headers, ...(authorization !== undefined && { authorization }) } }, signal);
    };
    const used = signIn.header(reference);
    let reply = await send();
    // Only the registry itself may ask who is there: where it redirects to must not learn it.
    if (reply.status === 401 && reply.host === url.host) {
      drop(reply);
      await signIn.answer(reference, used, String(reply.headers["www-authenticate"] ?? ""), signal);
      reply = await send();
    }
    if (reply.status === 200 || reply.status === 206) return reply;
    drop(reply);
    throw await refusal(caller, reference, reply, url.host);
  }

  async function refusal(
    { credentialsFor }: Caller,
    reference: RegistryReference,
    { status, host: from }: Reply,
    asked: string,
  ): Promise<PitwallError> {
    const { host, repository } = reference;
    if (from !== asked) return unreachable(host, new Error(`it redirects to ${from}, which answers ${status}`));
    if (status === 404) return imageNotFound(`${host}/${repository}`, "check its name and tag");
    if (status === 401 || status === 403) return denied(reference, (await credentialsFor(host)) !== undefined);
    if (status === 429) return slowDown(host);
    return unreachable(host, new Error(`it answers ${status}`));
  }

  /** The first that succeeds of the mirrors and the registry itself, whose refusal is the one that counts. */
  async function anywhere<T>(
    reference: RegistryReference,
    signal: AbortSignal,
    work: (place: RegistryReference) => Promise<T>,
  ): Promise<T> {
    for (const host of mirrors.get(reference.host) ?? []) {
      try {
        return await work({ ...reference, host });
      } catch (error) {
        signal.throwIfAborted();
        if (!(error instanceof PitwallError)) throw error;
      }
    }
    return work(reference);
  }

  /** A document is small: one that is cut is asked for again. */
  async function document(
    caller: Caller,
    reference: RegistryReference,
    path: string,
    accept: string,
    signal: AbortSignal,
  ): Promise<Buffer> {
    for (let attempt = 1; ; attempt++) {
      const reply = await get(caller, reference, path, { accept }, signal);
      try {
        return await readDocument(reply);
      } catch (error) {
        drop(reply);
        signal.throwIfAborted();
        if (error instanceof PitwallError) throw error;
        if (attempt === maxDocumentTries) throw unreachable(reference.host, error);
      }
    }
  }

  async function resolveAt(
    place: RegistryReference,
    spelled: string,
    signal: AbortSignal,
    { digest, credentialsFor }: Asking,
  ): Promise<ResolvedImage> {
    const caller = callerOf(credentialsFor);
    const wanted = digest ?? place.digest;
    const content = await document(caller, place, `manifests/${wanted ?? place.tag ?? "latest"}`, acceptedManifests, signal);
    if (wanted !== undefined) verify(content, { digest: wanted }, "the image's manifest");
    const read = ({ digest: named, mediaType }: Descriptor): Promise<Buffer> => {
      const isManifest = /(?:manifest|index)/.test(mediaType);
      return document(caller, place, `${isManifest ? "manifests" : "blobs"}/${named}`, isManifest ? acceptedManifests : "*/*", signal);
    };
    return toImage(spelled, content, digestOf(content), read);
  }

  return {
    resolve: (reference, spelled, signal, asking) => anywhere(reference, signal, (place) => resolveAt(place, spelled, signal, asking)),
    openBlob: (reference, layer, signal, credentialsFor) =>
      anywhere(reference, signal, async (place) => {
        const range = (position: number): Record<string, string> => (position > 0 ? { range: `bytes=${position}-` } : {});
        const open = async (position: number): Promise<Reply> => {
          const reply = await get(callerOf(credentialsFor), place, `blobs/${layer.digest}`, { accept: "*/*", ...range(position) }, signal);
          checkAnnounced(reply, layer);
          return reply;
        };
        let first: Reply | undefined = await open(0); // here, so that a mirror that lacks it is seen
        const stream = blobStream(
          place.host,
          layer,
          async (position) => {
            const reply = first ?? (await open(position));
            first = undefined;
            return reply;
          },
          clock,
          signal,
        );
        const readable = Readable.from(stream, { highWaterMark: chunksAhead });
        return readable.once("close", () => first && drop(first)); // nobody read it
      }),
  };
}

async function readDocument({ body }: Reply): Promise<Buffer> {
  const parts: Buffer[] = [];
  let size = 0;
  // The body has no encoding set.
  for await (const part of body as AsyncIterable<Buffer>) {
    size += part.length;
    if (size > maxDocumentBytes) throw malformed(`an image document has more than ${maxDocumentBytes} bytes`);
    parts.push(part);
  }
  return Buffer.concat(parts);
}
