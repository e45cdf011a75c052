// A registry and its token service, on loopback, that can be told to misbehave. What it was sent is written down.
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { createServer as createTlsServer } from "node:https";
import type { AddressInfo } from "node:net";
import type { WrittenImage } from "./layout-writer.ts";
import { manifestType, sha256 } from "./layout-writer.ts";

/** What the registry does to an answer that would be right. */
export type Fault =
  | { readonly kind: "cut"; readonly at: number }
  | { readonly kind: "status"; readonly status: number; readonly headers?: Record<string, string> }
  | { readonly kind: "redirect"; readonly to: string }
  | { readonly kind: "length"; readonly length: number }
  | { readonly kind: "no-ranges" }
  | { readonly kind: "wrong-range" }
  | { readonly kind: "other"; readonly content: Buffer }
  | { readonly kind: "pieces"; readonly size: number; readonly onPiece?: () => void };

export interface Seen {
  readonly path: string;
  readonly authorization: string | undefined;
  readonly range: string | undefined;
  readonly form: string;
}

export interface RegistryServer extends AsyncDisposable {
  readonly host: string;
  readonly seen: Seen[];
}

/** `auth`: how it lets in. `fault` is asked for each answer about `path` (`manifests/…`, `blobs/…`), with how often that was asked before. */
export interface RegistryBehaviour {
  readonly auth?: (seen: Seen) => { readonly challenge: string; readonly body?: string } | undefined;
  readonly fault?: (path: string, times: number, range: string | undefined) => Fault | undefined;
  readonly address?: string;
  readonly tls?: Tls;
}

/** It speaks TLS, on port 443, and closes each connection after its answer, so that its name is looked up again for the next. */
export interface Tls {
  /** PEM. */
  readonly cert: string;
  readonly key: string;
}

export const repository = "team/app";

/** Serves one image as `team/app:v1`. */
export async function startRegistry(image: WrittenImage, behaviour: RegistryBehaviour = {}): Promise<RegistryServer> {
  const times = new Map<string, number>();
  const prefix = `/v2/${repository}/`;
  return listen(behaviour, (response, seen) => {
    const refusal = behaviour.auth?.(seen);
    if (refusal) return void response.writeHead(401, { "www-authenticate": refusal.challenge }).end(refusal.body ?? "{}");
    const path = seen.path.startsWith(prefix) ? seen.path.slice(prefix.length).replace(/\?.*/, "") : "";
    const count = times.get(path) ?? 0;
    times.set(path, count + 1);
    const name = path.replace(/^(?:manifests|blobs)\//, "");
    const content = path === "manifests/v1" ? image.manifest : image.blobs.get(name);
    const fault = behaviour.fault?.(path, count, seen.range);
    if (!content) return void response.writeHead(404).end("{}");
    answer(response, content, path.startsWith("manifests/") ? manifestType : "application/octet-stream", seen.range, fault);
  });
}

function answer(response: ServerResponse, right: Buffer, type: string, range: string | undefined, fault: Fault | undefined): void {
  if (fault?.kind === "status") return void response.writeHead(fault.status, fault.headers).end("{}");
  if (fault?.kind === "redirect") return void response.writeHead(307, { location: fault.to }).end();
  const content = fault?.kind === "other" ? fault.content : right;
  const from = fault?.kind === "no-ranges" ? 0 : Number(/^bytes=(\d+)-$/.exec(range ?? "")?.[1] ?? 0);
  const body = content.subarray(from);
  const length = fault?.kind === "length" ? fault.length : body.length;
  const start = fault?.kind === "wrong-range" ? from + 1 : from;
  const headers = {
    "content-type": type,
    "content-length": length,
    ...(from > 0 && { "content-range": `bytes ${start}-${content.length - 1}/${content.length}` }),
  };
  response.writeHead(from > 0 ? 206 : 200, headers);
  if (fault?.kind === "cut") response.write(body.subarray(0, Math.max(0, fault.at - from)), () => response.destroy());
  else if (fault?.kind === "pieces") void inPieces(response, body, fault);
  else response.end(body.subarray(0, length), () => length > body.length && response.destroy());
}

async function inPieces(response: ServerResponse, body: Buffer, { size, onPiece }: Extract<Fault, { kind: "pieces" }>): Promise<void> {
  for (let at = 0; at < body.length && !response.destroyed; at += size) {
    // One piece is on its way before the next is sent, or they would arrive as one.
    await new Promise<void>((resolve) => void response.write(body.subarray(at, at + size), () => setImmediate(resolve)));
    onPiece?.();
  }
  response.end();
}

/** Gives the tokens that `issue` makes, and 401 where it makes none. */
export async function startTokenService(
  options: { readonly issue: (seen: Seen) => string | undefined } & Pick<RegistryBehaviour, "address" | "tls">,
): Promise<RegistryServer> {
  return listen(options, (response, seen) => {
    const token = options.issue(seen);
    if (token === undefined) response.writeHead(401).end("{}");
    else response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify({ token, expires_in: 60 }));
  });
}

async function listen(
  { address = "127.0.0.1", tls }: Pick<RegistryBehaviour, "address" | "tls">,
  handle: (response: ServerResponse, seen: Seen) => void,
): Promise<RegistryServer> {
  const seen: Seen[] = [];
  const take = (request: IncomingMessage, response: ServerResponse): void => {
    let form = "";
    request.setEncoding("utf8").on("data", (text: string) => (form += text));
    request.on("end", () => {
      const one = { path: request.url ?? "", authorization: request.headers.authorization, range: request.headers.range, form };
      seen.push(one);
      if (tls) response.setHeader("connection", "close");
      handle(response, one);
    });
  };
  const server: Server = tls ? createTlsServer(tls, take) : createServer(take);
  await new Promise<void>((resolve, reject) => server.once("error", reject).listen(tls ? 443 : 0, address, resolve));
  const { port } = server.address() as AddressInfo; // it listens on TCP
  return {
    host: `${address}:${port}`,
    seen,
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** The layer's path in the registry. */
export const blobPath = (content: Buffer): string => `blobs/${sha256(content)}`;
