// How much of the web port one client may take. Each limit has a setting, a status, and a reason in /metrics.
import { networks } from "../source.ts";

export interface WebLimits {
  /** Connections at once: in all, and from one address (IPv6: one /64). */
  readonly connections: number;
  readonly connectionsPerSource: number;
  /** Calls and requests at once: in all, from one address, and on one connection of HTTP/2. */
  readonly calls: number;
  readonly callsPerSource: number;
  readonly callsPerConnection: number;
  /** Of a request's messages, each, and all of one call; `Infinity` for no limit. */
  readonly messageBytes: number;
  readonly callBytes: number;
  readonly headerBytes: number;
  /** From a connection's begin to its first bytes, and to the end of the headers that follow. */
  readonly headersMs: number;
  /** For a gRPC-Web request to be whole: it has no streams upwards. */
  readonly requestMs: number;
  /** For a connection of HTTP/2 without a call. */
  readonly idleMs: number;
  /** Sources that are let in whatever came from there: a balancer's, behind which everybody is. */
  readonly penaltyExempt: { has(address: string): boolean };
}

export const defaultLimits: WebLimits = {
  connections: 10_000,
  connectionsPerSource: 1_000,
  calls: 10_000,
  callsPerSource: 2_000,
  callsPerConnection: 250,
  messageBytes: 4 * 2 ** 20,
  callBytes: 64 * 2 ** 30,
  headerBytes: 16 * 1024,
  headersMs: 10_000,
  requestMs: 60_000,
  idleMs: 300_000,
  penaltyExempt: networks(["127.0.0.0/8", "::1"]),
};

/** Why somebody was refused, as /metrics counts it. */
export type Refusal =
  | "connections"
  | "connections_per_source"
  | "penalty"
  | "calls"
  | "calls_per_source"
  | "calls_per_principal"
  | "message_bytes"
  | "call_bytes"
  | "small_frames"
  | "header_bytes"
  | "headers_time"
  | "request_time"
  | "pings"
  | "settings"
  | "http2"
  | "bad_request"
  | "origin"
  | "ssh_penalty"
  | "ssh_startups"
  | "ssh_tries"
  | "ssh_time"
  | "ssh_overrun"
  | "ssh_connections";
