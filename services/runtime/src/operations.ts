// The port for those who run a service: is it alive, is it ready, and what has it counted. Nothing of a user's passes here.
import { createServer } from "node:http";
import { collectDefaultMetrics, Gauge, Registry } from "prom-client";
import type { HostPort } from "./config.ts";
import { listen } from "./listen.ts";
import { messageChain } from "./errors.ts";

const maxConnections = 64;
const requestLimitMs = 5_000;
const readyLimitMs = 3_000;

export interface OperationsParts {
  /** Undefined: there is no such port. */
  readonly at: HostPort | undefined;
  readonly service: string;
  /** What it has counted; what Node tells of the process is added. */
  readonly registry?: Registry;
  /** What its other processes have counted, all of it, instead of this one's. */
  readonly metrics?: () => Promise<string>;
  /** Read when they are asked for. */
  readonly levels?: readonly { readonly name: string; readonly help: string; readonly read: () => number }[];
  /** Why it is not ready; undefined when it is. What takes longer than 3 s is not ready. */
  readonly notReady: () => Promise<string | undefined>;
}

export interface Operations extends AsyncDisposable {
  readonly port: number | undefined;
  /** From now on it is not ready: balancers send others elsewhere while what is under way ends. */
  stopping(): void;
}

interface Answer {
  readonly status: number;
  readonly body: string;
  readonly type?: string;
}

/** `/healthz` (the process answers), `/readyz` (it can do its work), `/metrics` (Prometheus' text). */
export async function openOperations({
  at,
  service,
  registry = new Registry(),
  metrics,
  levels = [],
  notReady,
}: OperationsParts): Promise<Operations> {
  if (!at) return { port: undefined, stopping: () => undefined, [Symbol.asyncDispose]: async () => undefined };
  let isStopping = false;
  collectDefaultMetrics({ register: registry });
  for (const { name, help, read } of levels) {
    const gauge: Gauge = new Gauge({ name, help, registers: [registry], collect: () => gauge.set(read()) });
  }

  async function answer(path: string): Promise<Answer> {
    if (path === "/healthz") return { status: 200, body: "ok\n" };
    if (path === "/metrics") return { status: 200, body: await (metrics ?? (() => registry.metrics()))(), type: registry.contentType };
    if (path !== "/readyz") return { status: 404, body: "here are /healthz, /readyz and /metrics\n" };
    const why = isStopping ? "it is stopping" : await inTime(notReady);
    return why === undefined ? { status: 200, body: "ready\n" } : { status: 503, body: `${why}\n` };
  }

  const server = createServer(
    { requestTimeout: requestLimitMs, headersTimeout: requestLimitMs, maxHeaderSize: 8_192 },
    (request, response) => {
      const isAsking = request.method === "GET" || request.method === "HEAD";
      const found: Promise<Answer> = isAsking ? answer(pathOf(request.url)) : Promise.resolve({ status: 405, body: "GET only\n" });
      void found
        .catch((error: unknown): Answer => ({ status: 500, body: `${messageChain(error)}\n` }))
        .then(({ status, body, type = "text/plain" }) => {
          response.writeHead(status, { "content-type": type, "cache-control": "no-store" });
          response.end(request.method === "HEAD" ? undefined : body);
        });
    },
  );
  server.maxConnections = maxConnections;
  const port = await listen(server, at, service);
  return {
    port,
    stopping: () => void (isStopping = true),
    async [Symbol.asyncDispose]() {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      server.closeAllConnections();
      await closed;
    },
  };
}

function pathOf(url = ""): string {
  return url.split("?", 1)[0] ?? "";
}

async function inTime(notReady: () => Promise<string | undefined>): Promise<string | undefined> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<string>((resolve) => {
    timer = setTimeout(() => resolve("it takes too long to find out"), readyLimitMs);
  });
  try {
    return await Promise.race([notReady(), late]);
  } catch (error) {
    return messageChain(error);
  } finally {
    clearTimeout(timer);
  }
}
