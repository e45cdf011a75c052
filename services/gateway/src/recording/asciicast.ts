// Lines of an asciicast, version 2 (docs.asciinema.org/manual/asciicast/v2): a header, then an event per line with the seconds since the
// beginning. No I/O.

export interface CastHeader {
  readonly columns: number;
  readonly rows: number;
  /** Seconds since 1970. */
  readonly atSeconds: number;
  /** Empty for a shell. */
  readonly command: string;
  /** The terminal's name; empty without one. */
  readonly term: string;
  readonly title: string;
}

export function headerLine({ columns, rows, atSeconds, command, term, title }: CastHeader): string {
  return line({
    ...{ version: 2, width: columns, height: rows, timestamp: atSeconds, title },
    ...(command !== "" && { command }),
    ...(term !== "" && { env: { TERM: term } }),
  });
}

/** What came from the VM. */
export function outputLine(seconds: number, text: string): string {
  return event(seconds, "o", text);
}

export function resizeLine(seconds: number, columns: number, rows: number): string {
  return event(seconds, "r", `${columns}x${rows}`);
}

/** A place with a word about it: how the session ended. */
export function markerLine(seconds: number, text: string): string {
  return event(seconds, "m", text);
}

function event(seconds: number, code: "o" | "r" | "m", data: string): string {
  return line([Math.round(seconds * 1e6) / 1e6, code, data]);
}

const line = (value: unknown): string => `${JSON.stringify(value)}\n`;
