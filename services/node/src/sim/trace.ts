// What happens in a simulation, one event after the other.
import type { Clock } from "@pitwall/runtime";

export interface TraceEvent {
  readonly node: string;
  readonly vm?: string;
  /** A step that failpoints name, a message's name, or a fault. */
  readonly step: string;
  readonly phase?: string;
}

export type Trace = (event: TraceEvent) => void;

export const noTrace: Trace = () => undefined;

/** One JSON line for each event. `at` is milliseconds since this was called. */
export function lineTrace(clock: Clock, write: (line: string) => void): Trace {
  const begunMs = clock.monotonicMs();
  return ({ node, vm, step, phase }) => {
    const at = Math.round(clock.monotonicMs() - begunMs);
    write(`${JSON.stringify({ at, node, ...(vm !== undefined && { vm }), step, ...(phase !== undefined && { phase }) })}\n`);
  };
}
