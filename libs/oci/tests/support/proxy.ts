// Stands before a registry and does to requests what bad networks and busy servers do. What it was sent is written down.
import { createServer, request as ask, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import type { Seen } from "./registry-server.ts";

export type ProxyFault =
  /** The connection is cut after so many bytes of the request's body, which the registry gets. */
  | { readonly kind: "cut"; readonly at: number }
  /** The registry gets everything, and its answer is lost. */
  | { readonly kind: "lost" }
  | { readonly kind: "status"; readonly status: number; readonly headers?: Record<string, string> }
  /** The address for what comes next is on another host. */
  | { readonly kind: "elsewhere"; readonly host: string };

export interface ProxySeen extends Pick<Seen, "path" | "authorization"> {
  readonly method: string;
}

export interface Proxy extends AsyncDisposable {
  readonly host: string;
  readonly seen: ProxySeen[];
}

/** `fault` is asked for each request, with how many there were of its kind: a method, and the path's part after the repository. */
export async function startProxy(
  registry: string,
  fault: (kind: string, times: number, seen: ProxySeen) => ProxyFault | undefined,
): Promise<Proxy> {
  const seen: ProxySeen[] = [];
  const times = new Map<string, number>();
  const server = createServer((request, response) => {
    const one = { method: request.method ?? "", path: request.url ?? "", authorization: request.headers.authorization };
    seen.push(one);
    const kind = `${one.method} ${/\/(blobs\/uploads\/|blobs|manifests)/.exec(one.path)?.[1] ?? ""}`;
    const before = times.get(kind) ?? 0;
    times.set(kind, before + 1);
    pass(registry, request, response, fault(kind, before, one));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo; // it listens on TCP
  return {
    host: `127.0.0.1:${port}`,
    seen,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

function pass(registry: string, request: IncomingMessage, response: ServerResponse, fault: ProxyFault | undefined): void {
  if (fault?.kind === "status") {
    request.resume();
    return void response.writeHead(fault.status, fault.headers).end("{}");
  }
  const { method, headers } = request;
  const upstream = ask(`http://${registry}${request.url}`, { method, headers });
  upstream.on("error", () => response.destroy());
  upstream.on("response", (answer) => {
    if (fault?.kind === "lost") return void response.destroy();
    const location = answer.headers.location;
    const moved = fault?.kind === "elsewhere" && location !== undefined && { location: movedTo(fault.host, location) };
    response.writeHead(answer.statusCode ?? 500, { ...answer.headers, ...moved });
    answer.pipe(response);
  });
  if (fault?.kind !== "cut") return void request.pipe(upstream);
  let left = fault.at;
  const cut = (): void => {
    request.destroy();
    upstream.destroy();
  };
  if (left === 0) return cut();
  request.on("data", (chunk: Buffer) => {
    upstream.write(chunk.subarray(0, left), () => left === 0 && cut());
    left -= Math.min(left, chunk.length);
  });
}

function movedTo(host: string, location: string): string {
  const url = new URL(location, `http://${host}`);
  url.host = host;
  return url.href;
}
