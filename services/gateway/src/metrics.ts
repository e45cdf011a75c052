// What the gateway counts, for Prometheus. Names of methods come from clients: only those that are there become labels.
import { Counter, Gauge, Histogram, Registry } from "prom-client";
import type { Refusal } from "./web/limits.ts";

/** Of servers that are not Pitwall's; further ones are `other`. */
const maxMethods = 200;
const secondsBuckets = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];

export type Protocol = "grpc" | "grpc-web" | "websocket";

/** How many there are now. */
export type Level = "calls" | "connections" | "tunnels" | "ssh_connections" | "ssh_sessions";

const levels: Readonly<Record<Level, string>> = {
  calls: "Calls under way.",
  connections: "Connections of the web port.",
  tunnels: "Open ways into VMs.",
  ssh_connections: "Connections of the SSH port.",
  ssh_sessions: "Shells, commands and transfers by SSH that the gateway serves itself.",
};

/** One call, from its beginning on. */
export interface CallMetrics {
  /** The upstream has begun to answer. */
  answered(): void;
  /** The gRPC status that it ended with; only the first counts. */
  ended(code: string): void;
}

export class GatewayMetrics {
  readonly registry = new Registry();
  readonly #methods = new Set<string>();
  readonly #calls = new Counter({
    name: "pitwall_gateway_calls_total",
    help: "Calls that have ended, by their gRPC status; 1, cancelled, is a client that went.",
    labelNames: ["protocol", "method", "code"] as const,
    registers: [this.registry],
  });
  readonly #answers = new Histogram({
    name: "pitwall_gateway_answer_seconds",
    help: "From a call's headers to the first of its answer.",
    labelNames: ["protocol"] as const,
    buckets: secondsBuckets,
    registers: [this.registry],
  });
  readonly #refused = new Counter({
    name: "pitwall_gateway_refused_total",
    help: "Clients, calls and connections that a limit refused, by which.",
    labelNames: ["reason"] as const,
    registers: [this.registry],
  });
  readonly #repeated = new Counter({
    name: "pitwall_gateway_repeated_total",
    help: "Calls that an upstream refused untaken, and that were begun anew.",
    registers: [this.registry],
  });
  readonly #vmRequests = new Counter({
    name: "pitwall_gateway_vm_requests_total",
    help: "Requests to ports of VMs that have ended, by their HTTP status; 101 is a WebSocket, or TCP, and none is a client that went first.",
    labelNames: ["status"] as const,
    registers: [this.registry],
  });
  readonly #levels = new Map<Level, Gauge>();
  readonly #counters = new Map<string, Counter.Internal>();
  readonly #answersOf: Readonly<Record<Protocol, Histogram.Internal<"protocol">>> = {
    grpc: this.#answers.labels({ protocol: "grpc" }),
    "grpc-web": this.#answers.labels({ protocol: "grpc-web" }),
    websocket: this.#answers.labels({ protocol: "websocket" }),
  };

  constructor() {
    for (const [level, help] of Object.entries(levels) as [Level, string][])
      // its own keys
      this.#levels.set(level, new Gauge({ name: `pitwall_gateway_${level}`, help, registers: [this.registry] }));
  }

  /** Of /SERVICE/METHOD. */
  begin(protocol: Protocol, path: string): CallMetrics {
    const begun = performance.now();
    const answers = this.#answersOf[protocol];
    this.enter("calls");
    let hasEnded = false;
    return {
      answered: () => answers.observe((performance.now() - begun) / 1000),
      ended: (code) => {
        if (hasEnded) return;
        hasEnded = true;
        this.leave("calls");
        if (code === "0" && this.#methods.size < maxMethods) this.#methods.add(path);
        this.#counterOf(protocol, this.#methods.has(path) ? path : "other", code).inc();
      },
    };
  }

  /** Finding it by its labels costs as much as all else of a call's counting. */
  #counterOf(protocol: Protocol, method: string, code: string): Counter.Internal {
    const key = `${protocol} ${method} ${code}`;
    const known = this.#counters.get(key) ?? this.#calls.labels({ protocol, method, code });
    this.#counters.set(key, known);
    return known;
  }

  readonly refuse = (reason: Refusal): void => this.#refused.inc({ reason });

  /** A call went up a second time. */
  repeated(): void {
    this.#repeated.inc();
  }

  /** A request to a port of a VM has ended; undefined: before it had an answer. */
  vmRequest(status: number | undefined): void {
    this.#vmRequests.inc({ status: status === undefined ? "none" : String(status) });
  }

  enter(level: Level): void {
    this.#levels.get(level)?.inc();
  }

  leave(level: Level): void {
    this.#levels.get(level)?.dec();
  }
}
