// The one error type that crosses a boundary with a meaning, and its mapping to gRPC statuses.
import { Status } from "nice-grpc";

/** What kind of refusal an error is. Each maps to one gRPC status; see {@link statusOf}. */
export type Fault =
  | "invalid" // malformed whatever the state
  | "not-found" // missing, or not the caller's to see
  | "exists" // the name or key is taken
  | "denied" // known caller, not allowed
  | "unauthenticated" // no or bad credential
  | "state" // this state forbids it
  | "race" // lost a race: read again
  | "exhausted" // quota or capacity
  | "unavailable" // transient: retry
  | "out-of-range" // of what is no longer kept: begin anew
  | "deadline" // time ran out
  | "corrupt" // data does not match its digest
  | "unsupported" // a feature that is off or absent
  | "internal"; // a bug

/** gRPC status of each fault. */
export const statusOf: Readonly<Record<Fault, Status>> = {
  invalid: Status.INVALID_ARGUMENT,
  "not-found": Status.NOT_FOUND,
  exists: Status.ALREADY_EXISTS,
  denied: Status.PERMISSION_DENIED,
  unauthenticated: Status.UNAUTHENTICATED,
  state: Status.FAILED_PRECONDITION,
  race: Status.ABORTED,
  exhausted: Status.RESOURCE_EXHAUSTED,
  unavailable: Status.UNAVAILABLE,
  "out-of-range": Status.OUT_OF_RANGE,
  deadline: Status.DEADLINE_EXCEEDED,
  corrupt: Status.DATA_LOSS,
  unsupported: Status.UNIMPLEMENTED,
  internal: Status.INTERNAL,
};

/** What a program may want to know of a refusal. */
export interface ErrorDetail {
  /** Stable UPPER_SNAKE word, for `google.rpc.ErrorInfo`. Default: derived from the fault. */
  readonly reason?: string;
  /** The request field that was wrong, dotted (`spec.mem_bytes`), for `google.rpc.BadRequest`. */
  readonly field?: string;
  /** More for programs, for `google.rpc.ErrorInfo`. */
  readonly metadata?: Readonly<Record<string, string>>;
  /** When another try may succeed, for `google.rpc.RetryInfo`. */
  readonly retryAfterMs?: number;
  /** What is used up, for `google.rpc.QuotaFailure`. */
  readonly quota?: readonly QuotaViolation[];
  readonly cause?: unknown;
}

/** One limit that a request would exceed. */
export interface QuotaViolation {
  /** Whose limit and of what: `project/UUID/vms`. */
  readonly subject: string;
  /** Limit, used and wanted, in words. */
  readonly description: string;
}

/** A refusal with a meaning. `message` says what was wrong, what was expected and what to do; it never holds a path, query or secret. */
export class PitwallError extends Error {
  readonly fault: Fault;
  readonly reason: string;
  readonly field: string | undefined;
  readonly metadata: Readonly<Record<string, string>>;
  readonly retryAfterMs: number | undefined;
  readonly quota: readonly QuotaViolation[];

  constructor(fault: Fault, message: string, detail: ErrorDetail = {}) {
    super(message, detail.cause === undefined ? undefined : { cause: detail.cause });
    this.name = "PitwallError";
    this.fault = fault;
    this.reason = detail.reason ?? fault.toUpperCase().replaceAll("-", "_");
    this.field = detail.field;
    this.metadata = detail.metadata ?? {};
    this.retryAfterMs = detail.retryAfterMs;
    this.quota = detail.quota ?? [];
  }
}

/** Bad input, with the name of the field. */
export function invalid(field: string, message: string): PitwallError {
  return new PitwallError("invalid", `${field}: ${message}`, { field, reason: "INVALID_FIELD" });
}

/** Thrown where the type system says that nothing is left. */
export function assertNever(value: never): never {
  throw new Error(`unexpected value ${JSON.stringify(value)}`);
}

/** The messages of an error and its causes, outermost first, for a log line or a person at a terminal. */
export function messageChain(error: unknown): string {
  const parts: string[] = [];
  for (let e: unknown = error; e !== undefined && parts.length < 8; e = e instanceof Error ? e.cause : undefined) {
    const text = wordsOf(e);
    if (!parts.includes(text)) parts.push(text);
  }
  return parts.join(": ");
}

function wordsOf(error: unknown): string {
  return error instanceof Error ? error.message || error.name : String(error);
}
