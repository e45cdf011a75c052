// A registry on loopback that takes images as distribution-spec 1.1 says, upload sessions that are taken up again among it, which
// docker-registry does not know. What it was sent is written down.
import { randomUUID } from "node:crypto";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { manifestType, sha256 } from "./layout-writer.ts";

export interface UploadRegistryOptions {
  /** What is left of a request's body that was cut: its bytes, nothing, or nothing of the whole session. */
  readonly keeps: "bytes" | "whole requests" | "no sessions";
  /** Takes blobs in one request only. */
  readonly isMonolithic?: boolean;
  readonly leastPartBytes?: number;
  /** What it says that it has, instead of the truth. */
  readonly claims?: (receivedBytes: number) => number;
}

export interface UploadSeen {
  readonly method: string;
  readonly path: string;
  readonly contentRange: string | undefined;
  /** Bytes of the body that came. */
  bodyBytes: number;
}

export interface UploadRegistry extends AsyncDisposable {
  readonly host: string;
  readonly seen: readonly UploadSeen[];
}

interface Session {
  content: Buffer;
  /** Resolves when the request before has ended, cut or not. */
  idle: Promise<void>;
}

export async function startUploadRegistry(options: UploadRegistryOptions): Promise<UploadRegistry> {
  const { claims = (bytes) => bytes, leastPartBytes } = options;
  const seen: UploadSeen[] = [];
  const stored = { blobs: new Map<string, Buffer>(), manifests: new Map<string, Buffer>() };
  const sessions = new Map<string, Session>();

  async function take(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { pathname, searchParams } = new URL(request.url ?? "", "http://registry");
    const one = { method: request.method ?? "", path: pathname, contentRange: request.headers["content-range"], bodyBytes: 0 };
    seen.push(one);
    const end = (status: number, headers: Record<string, string> = {}, body?: Buffer): void =>
      void response.writeHead(status, headers).end(body);
    const place = (bytes: number): Record<string, string> => ({ location: pathname, range: `0-${Math.max(0, claims(bytes) - 1)}` });
    const [, kind = "", name = ""] = /\/(blobs\/uploads|blobs|manifests)\/([^/]*)$/.exec(pathname) ?? [];

    if (kind === "blobs" || kind === "manifests") {
      if (one.method === "PUT") {
        stored[kind].set(name, await bodyOf(request, one, []));
        return end(201);
      }
      const content = stored[kind].get(name);
      if (!content) return end(404);
      return end(
        200,
        { "content-type": manifestType, "content-length": String(content.length) },
        one.method === "HEAD" ? undefined : content,
      );
    }
    if (one.method === "POST") {
      const id = randomUUID();
      sessions.set(id, { content: Buffer.alloc(0), idle: Promise.resolve() });
      return end(202, {
        location: `${pathname}${id}`,
        ...(leastPartBytes !== undefined && { "oci-chunk-min-length": String(leastPartBytes) }),
      });
    }
    const session = sessions.get(name);
    await session?.idle;
    if (!session || !sessions.has(name)) return end(404);
    if (one.method === "GET") return end(204, place(session.content.length));
    if (options.isMonolithic === true && one.method === "PATCH") return end(405);
    if (one.method === "PATCH" && !(one.contentRange ?? "").startsWith(`${session.content.length}-`)) return end(416);
    const working = Promise.withResolvers<void>();
    session.idle = working.promise;
    const parts = [session.content];
    try {
      session.content = await bodyOf(request, one, parts);
    } catch {
      if (options.keeps === "no sessions") sessions.delete(name);
      if (options.keeps === "bytes") session.content = Buffer.concat(parts);
      return;
    } finally {
      working.resolve();
    }
    if (one.method === "PATCH") return end(202, place(session.content.length));
    sessions.delete(name);
    if (sha256(session.content) !== searchParams.get("digest")) return end(400);
    stored.blobs.set(sha256(session.content), session.content);
    end(201);
  }

  const server = createServer((request, response) => void take(request, response));
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

/** `parts` and what follows them; rejects when the body is cut, and `parts` holds what came of it. */
async function bodyOf(request: IncomingMessage, seen: UploadSeen, parts: Buffer[]): Promise<Buffer> {
  // It has no encoding set.
  for await (const part of request as AsyncIterable<Buffer>) {
    seen.bodyBytes += part.length;
    parts.push(part);
  }
  return Buffer.concat(parts);
}
