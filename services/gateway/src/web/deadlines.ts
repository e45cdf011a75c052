// How long a call may take. One that answers once is somebody's to wait for: without a deadline, or with a distant one, a client that has
// gone and a controller that hangs would keep it for ever. It is cut short, and not refused: whoever waits for a minute has its answer by
// then, and what was changed is found by the same request_id.
import { apiServices, guestService } from "./services.ts";

/** The longest deadline of a call with one request and one answer, and the one it has without any. */
export const unaryLimitMs = 60_000;
/** Their callers wait for something that takes as long as it takes. */
const waits: ReadonlySet<string> = new Set(["/pitwall.v1.VmService/WaitVm"]);

const unary: ReadonlySet<string> = new Set(
  [...apiServices, guestService].flatMap(({ fullName, methods }) =>
    Object.values(methods).flatMap(({ name, requestStream, responseStream }) =>
      requestStream || responseStream || waits.has(`/${fullName}/${name}`) ? [] : [`/${fullName}/${name}`],
    ),
  ),
);

/** What counts of the deadline that a call's client asked for; undefined: none. */
export type DeadlineOf = (path: string, askedMs: number | undefined) => number | undefined;

/** For the API of an installation. */
export const deadlineOf: DeadlineOf = (path, askedMs) => (unary.has(path) ? Math.min(askedMs ?? unaryLimitMs, unaryLimitMs) : askedMs);
