// The web console's files, from a folder, on the gateway's own origin. All are read once, at the start: a page never gets files of two releases,
// and no request names a file of the disk.
import { createHash } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import type { IncomingHttpHeaders, OutgoingHttpHeaders } from "node:http2";
import { extname, join, relative, sep } from "node:path";
import { PitwallError } from "@pitwall/runtime";
import type { PlainReply } from "./plain-reply.ts";

const maxFiles = 2_000;
const maxBytes = 64 * 2 ** 20;
const index = "/index.html";

/** By their names' ends. Browsers are told not to guess, so that another one is downloaded and never shown. */
const types: Readonly<Record<string, string>> = {
  ...{ ".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8", ".txt": "text/plain; charset=utf-8" },
  ...{ ".js": "text/javascript; charset=utf-8", ".mjs": "text/javascript; charset=utf-8" },
  ...{ ".json": "application/json", ".map": "application/json", ".webmanifest": "application/manifest+json", ".wasm": "application/wasm" },
  ...{ ".svg": "image/svg+xml", ".png": "image/png", ".jpg": "image/jpeg", ".webp": "image/webp", ".ico": "image/x-icon" },
  ...{ ".woff2": "font/woff2" },
};

/** The folder of bundlers' files whose names say what is in them: `assets/index-B4f5c6d7.js`. */
const named = /^\/assets\/(?:.*\/)?[^/]+-[\w-]{8,}\.[^/]+$/;
const forEver = "public, max-age=31536000, immutable";
const askEachTime = "no-cache";

interface ConsoleFile {
  readonly body: Buffer;
  readonly headers: OutgoingHttpHeaders;
}

export interface ConsoleFiles {
  /** What to answer to a GET; undefined when there is no such file, and what asks for it is no page. */
  reply(path: string, headers: IncomingHttpHeaders): PlainReply | undefined;
}

/** `issuer` is where people log in, which the console's pages may call beside the gateway. Throws `invalid` when the folder holds no console. */
export async function openConsoleFiles(folder: string, issuer: string): Promise<ConsoleFiles> {
  const always = safetyHeaders(issuer);
  const files = new Map<string, ConsoleFile>();
  for (const path of await pathsOf(folder)) {
    const body = await readFile(path);
    const at = `/${relative(folder, path).split(sep).join("/")}`;
    const headers = {
      ...always,
      "content-type": types[extname(at).toLowerCase()] ?? "application/octet-stream",
      "cache-control": named.test(at) ? forEver : askEachTime,
      etag: `"${createHash("sha256").update(body).digest("base64url")}"`,
    };
    files.set(at, { body, headers });
  }
  const first = files.get(index);
  if (!first) throw faulty(`${folder} has no index.html`);
  if ([...files.values()].reduce((sum, { body }) => sum + body.length, 0) > maxBytes)
    throw faulty(`${folder} has more than ${maxBytes} bytes`);
  return {
    reply(path, headers) {
      const file = path === "/" ? first : (files.get(decoded(path)) ?? (asksForPage(path, headers) ? first : undefined));
      if (!file) return undefined;
      const isKnown = (headers["if-none-match"] ?? "").split(/\s*,\s*/).some((tag) => tag.replace(/^W\//, "") === file.headers["etag"]);
      if (isKnown) return { status: 304, headers: file.headers, body: "" };
      return { status: 200, headers: { ...file.headers, "content-length": file.body.length }, body: file.body };
    },
  };
}

/** Nothing inline, nothing from elsewhere, and in nobody's frame. */
function safetyHeaders(issuer: string): OutgoingHttpHeaders {
  const own = ["script-src", "style-src", "font-src", "manifest-src", "worker-src"].map((kind) => `${kind} 'self'`);
  const policy = [
    ...["default-src 'none'", ...own, "img-src 'self' data:", `connect-src 'self' ${new URL(issuer).origin}`],
    ...["base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'"],
  ];
  return {
    "content-security-policy": policy.join("; "),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
  };
}

/** Of its files. Links, and what begins with a dot, are left out: a folder must not show what is not in it, or not meant. */
async function pathsOf(folder: string): Promise<readonly string[]> {
  let entries;
  try {
    entries = await readdir(folder, { recursive: true, withFileTypes: true });
  } catch (cause) {
    throw faulty(`${folder} cannot be read`, cause);
  }
  const paths = entries.filter((entry) => entry.isFile()).map(({ parentPath, name }) => join(parentPath, name));
  const shown = paths.filter((path) =>
    relative(folder, path)
      .split(sep)
      .every((part) => !part.startsWith(".")),
  );
  if (shown.length > maxFiles) throw faulty(`${folder} has more than ${maxFiles} files`);
  return shown;
}

function decoded(path: string): string {
  try {
    return decodeURIComponent(path);
  } catch {
    return path;
  }
}

/** An address of the console's own making, typed or loaded again: browsers say so of pages, and of nothing that pages load. */
function asksForPage(path: string, { accept = "" }: IncomingHttpHeaders): boolean {
  return accept.includes("text/html") && !path.startsWith("/.well-known/") && !path.startsWith("/assets/");
}

function faulty(why: string, cause?: unknown): PitwallError {
  return new PitwallError("invalid", `configuration: PITWALL_CONSOLE_DIR: ${why}`, { reason: "INVALID_CONFIG", cause });
}
