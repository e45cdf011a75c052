// A client of the OCI distribution API (distribution-spec 1.1): manifests and blobs, anonymous or with an anonymous token.
import { lookup } from "node:dns/promises";
import { BlockList, isIP } from "node:net";
import { Readable } from "node:stream";
import { PitwallError } from "@pitwall/runtime";
import { Agent, fetch, type Response } from "undici";
import { z } from "zod";
import { acceptedManifests, digestOf, maxDocumentBytes, toImage, verify, type Descriptor } from "./documents.ts";
import { imageNotFound, malformed } from "./image-error.ts";
import type { LayerDescriptor, ResolvedImage } from "./image.ts";
import type { ImageReference } from "./reference.ts";

type RegistryReference = Extract<ImageReference, { kind: "registry" }>;

const connectMs = 10_000;
const silenceMs = 60_000;
const maxRedirects = 5;
const tokenReply = z.object({ token: z.string().optional(), access_token: z.string().optional() });

/** Addresses that are this host's or its network's own: a user must not reach them through the server (SSRF). */
const privateNets = new BlockList();
for (const [net, prefix] of [
  ["0.0.0.0", 8],
  ["10.0.0.0", 8],
  ["100.64.0.0", 10],
  ["127.0.0.0", 8],
  ["169.254.0.0", 16],
  ["172.16.0.0", 12],
  ["192.168.0.0", 16],
  ["224.0.0.0", 3],
] as const) {
  privateNets.addSubnet(net, prefix);
}
for (const [net, prefix] of [
  ["::", 127],
  ["fc00::", 7],
  ["fe80::", 10],
  ["ff00::", 8],
] as const)
  privateNets.addSubnet(net, prefix, "ipv6");

/** Whether an address is not of the public Internet. IPv4 in IPv6 counts as IPv4. */
function isPrivateAddress(address: string): boolean {
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address)?.[1];
  return privateNets.check(mapped ?? address, isIP(mapped ?? address) === 6 ? "ipv6" : "ipv4");
}

export interface RegistryClient {
  resolve(reference: RegistryReference, spelled: string, signal: AbortSignal, digest: string | undefined): Promise<ResolvedImage>;
  openBlob(reference: RegistryReference, layer: LayerDescriptor, signal: AbortSignal): Promise<Readable>;
}

/** `insecure` are `host:port` that may be on a private address and are spoken to over plain HTTP. */
export function openRegistryClient(insecure: ReadonlySet<string>): RegistryClient {
  const tokens = new Map<string, string>();
  // The address is judged where the connection is made, so that a name cannot answer differently the second time.
  const guarded = new Agent({
    connect: {
      timeout: connectMs,
      lookup: (hostname, options, callback) => {
        lookup(hostname, { ...options, all: true }).then(
          (found) => {
            const open = found.filter(({ address }) => !isPrivateAddress(address));
            if (open.length === 0) callback(refusedAddress(hostname), []);
            else callback(null, open);
          },
          (error: unknown) => callback(error as NodeJS.ErrnoException, []), // lookup rejects with nothing else
        );
      },
    },
    headersTimeout: silenceMs,
    bodyTimeout: silenceMs,
  });
  const trusting = new Agent({ connect: { timeout: connectMs }, headersTimeout: silenceMs, bodyTimeout: silenceMs });

  async function request(url: string, headers: Record<string, string>, host: string, signal: AbortSignal): Promise<Response> {
    let target = new URL(url);
    let sent = headers;
    for (let hop = 0; hop <= maxRedirects; hop++) {
      const isTrusted = insecure.has(target.host) || (insecure.has(host) && target.host === host);
      const bare = target.hostname.replace(/^\[|\]$/g, "");
      if (!isTrusted && isIP(bare) !== 0 && isPrivateAddress(bare)) throw refusedAddress(target.host);
      if (!isTrusted && target.protocol !== "https:")
        throw new PitwallError("unavailable", `the registry ${host} redirects to plain HTTP`, { reason: "REGISTRY_UNREACHABLE" });
      const response = await fetch(target, { headers: sent, redirect: "manual", signal, dispatcher: isTrusted ? trusting : guarded }).catch(
        (cause: unknown) => {
          signal.throwIfAborted();
          throw cause instanceof Error && cause.cause instanceof PitwallError ? cause.cause : unreachable(host, cause);
        },
      );
      const location = response.status >= 300 && response.status < 400 ? response.headers.get("location") : null;
      if (location === null) return response;
      await response.body?.cancel();
      const next = new URL(location, target);
      if (next.host !== target.host) sent = Object.fromEntries(Object.entries(sent).filter(([name]) => name !== "authorization"));
      target = next;
    }
    throw new PitwallError("unavailable", `the registry ${host} redirects too often`, { reason: "REGISTRY_UNREACHABLE" });
  }

  async function get(reference: RegistryReference, path: string, accept: string, signal: AbortSignal): Promise<Response> {
    const { host, repository } = reference;
    const base = `${insecure.has(host) ? "http" : "https"}://${host}`;
    const key = `${host}/${repository}`;
    const send = (): Promise<Response> => {
      const token = tokens.get(key);
      return request(
        `${base}/v2/${repository}/${path}`,
        { accept, ...(token !== undefined && { authorization: `Bearer ${token}` }) },
        host,
        signal,
      );
    };
    let response = await send();
    if (response.status === 401) {
      const challenge = response.headers.get("www-authenticate") ?? "";
      await response.body?.cancel();
      tokens.set(key, await anonymousToken(challenge, host, repository, signal));
      response = await send();
    }
    if (response.ok) return response;
    await response.body?.cancel();
    if (response.status === 404) throw imageNotFound(`${host}/${repository}`, "check its name and tag");
    if (response.status === 401 || response.status === 403) {
      const message = `image: the registry ${host} does not let anybody read ${repository}; it may not exist, or need a sign-in, which is not supported yet`;
      throw new PitwallError("denied", message, { reason: "REGISTRY_DENIED", field: "image" });
    }
    if (response.status === 429)
      throw new PitwallError("unavailable", `the registry ${host} asks to slow down; try again later`, { reason: "REGISTRY_BUSY" });
    throw unreachable(host, new Error(`status ${response.status}`));
  }

  async function anonymousToken(challenge: string, host: string, repository: string, signal: AbortSignal): Promise<string> {
    const fields = new Map([...challenge.matchAll(/([a-z]+)="([^"]*)"/gi)].map(([, name, value]) => [name?.toLowerCase(), value] as const));
    const realm = fields.get("realm");
    if (!/^bearer /i.test(challenge) || realm === undefined || !URL.canParse(realm)) {
      throw new PitwallError("denied", `image: the registry ${host} needs a sign-in, which is not supported yet`, {
        reason: "REGISTRY_DENIED",
        field: "image",
      });
    }
    const url = new URL(realm);
    const service = fields.get("service");
    if (service !== undefined) url.searchParams.set("service", service);
    url.searchParams.set("scope", `repository:${repository}:pull`);
    const response = await request(url.href, { accept: "application/json" }, host, signal);
    const reply = tokenReply.safeParse(await response.json().catch(() => undefined));
    const token = reply.data?.token ?? reply.data?.access_token;
    if (!response.ok || token === undefined)
      throw new PitwallError("denied", `image: the registry ${host} gives no anonymous access to ${repository}`, {
        reason: "REGISTRY_DENIED",
        field: "image",
      });
    return token;
  }

  async function document(reference: RegistryReference, path: string, accept: string, signal: AbortSignal): Promise<Buffer> {
    const response = await get(reference, path, accept, signal);
    const parts: Buffer[] = [];
    let size = 0;
    for await (const chunk of response.body ?? []) {
      const part = Buffer.from(chunk as Uint8Array); // a fetch body yields bytes
      size += part.length;
      if (size > maxDocumentBytes) throw malformed(`an image document has more than ${maxDocumentBytes} bytes`);
      parts.push(part);
    }
    return Buffer.concat(parts);
  }

  return {
    async resolve(reference, spelled, signal, digest) {
      const wanted = digest ?? reference.digest;
      const content = await document(reference, `manifests/${wanted ?? reference.tag ?? "latest"}`, acceptedManifests, signal);
      if (wanted !== undefined) verify(content, { digest: wanted }, "the image's manifest");
      const read = ({ digest: named, mediaType }: Descriptor): Promise<Buffer> => {
        const isManifest = /(?:manifest|index)/.test(mediaType);
        return document(reference, `${isManifest ? "manifests" : "blobs"}/${named}`, isManifest ? acceptedManifests : "*/*", signal);
      };
      return toImage(spelled, content, digestOf(content), read);
    },
    async openBlob(reference, layer, signal) {
      const response = await get(reference, `blobs/${layer.digest}`, "*/*", signal);
      if (!response.body) throw unreachable(reference.host, new Error("no body"));
      return Readable.fromWeb(response.body);
    },
  };
}

function unreachable(host: string, cause: unknown): PitwallError {
  return new PitwallError("unavailable", `the registry ${host} cannot be reached: ${reasonOf(cause)}`, {
    reason: "REGISTRY_UNREACHABLE",
    cause,
  });
}

/** fetch says "fetch failed" and hides why in the cause. */
function reasonOf(error: unknown): string {
  const inner = error instanceof Error && error.cause instanceof Error ? error.cause : error;
  if (!(inner instanceof Error)) return String(inner);
  return "code" in inner && inner.message === "" ? String(inner.code) : inner.message;
}

function refusedAddress(host: string): PitwallError {
  const message = `image: ${host} is on a private network; an administrator can allow it in PITWALL_INSECURE_REGISTRIES`;
  return new PitwallError("invalid", message, { reason: "REGISTRY_NOT_ALLOWED", field: "image" });
}
