// What the server said no with.
import { ClientError, Status } from "nice-grpc-common";
import { BadRequest, ErrorInfo, RichClientError } from "nice-grpc-error-details";
import { phaseToJSON, type Vm } from "./gen/pitwall/v1/vm.ts";

/** A refusal by Pitwall. `message` is for people; `code`, `reason` and `field` are for programs. */
export class PitwallRpcError extends Error {
  /** gRPC status name, such as `NOT_FOUND`. */
  readonly code: keyof typeof Status;
  /** Stable UPPER_SNAKE word, such as `NAME_TAKEN`; empty when the server gave none. */
  readonly reason: string;
  /** The request field that was wrong, dotted. */
  readonly field: string | undefined;

  constructor(error: ClientError) {
    super(error.details, { cause: error });
    this.name = "PitwallRpcError";
    this.code = Status[error.code] as keyof typeof Status; // the enum maps numbers to its own names
    const details = error instanceof RichClientError ? error.extra : [];
    this.reason = details.flatMap((detail) => (detail.$type === "google.rpc.ErrorInfo" ? [detail.reason] : []))[0] ?? "";
    this.field = details.flatMap((detail) =>
      detail.$type === "google.rpc.BadRequest" ? detail.fieldViolations.map(({ field }) => field) : [],
    )[0];
  }
}

/** A VM did not get in time where it was waited for; it may still get there. */
export class WaitTimeoutError extends Error {
  /** As it was seen last; undefined when nothing was heard of it. */
  readonly vm: Vm | undefined;

  constructor(name: string, timeoutMs: number, vm: Vm | undefined) {
    const where = vm ? `${phaseToJSON(vm.phase)} ${vm.message}`.trim() : "nothing was heard of it";
    super(`${name} did not get there within ${timeoutMs} ms: ${where}`);
    this.name = "WaitTimeoutError";
    this.vm = vm;
  }
}

/** A refusal before the call, in the server's words. */
export function invalidField(path: string, field: string, message: string): PitwallRpcError {
  const description = `${field}: ${message}`;
  const details = [
    ErrorInfo.create({ reason: "INVALID_FIELD", domain: "pitwall.dev" }),
    BadRequest.create({ fieldViolations: [{ field, description }] }),
  ];
  return new PitwallRpcError(new RichClientError(path, Status.INVALID_ARGUMENT, description, details));
}

/** Turns a call's failure into {@link PitwallRpcError}; leaves anything else (an abort, a bug) as it is. */
export function translate(error: unknown): unknown {
  return error instanceof ClientError ? new PitwallRpcError(error) : error;
}
