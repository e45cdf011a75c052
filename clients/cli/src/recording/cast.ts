// Reads an asciicast, version 2, as it comes. No I/O.
import { CliError } from "../failure.ts";

export interface CastEvent {
  /** Seconds since the beginning. */
  readonly seconds: number;
  /** `o`: output; `m`: a word about this place; others are for other readers. */
  readonly code: string;
  readonly data: string;
}

const maxLine = 1_048_576;

/** The events of pieces that need not be whole lines. Throws `CliError` for what is no asciicast. */
export async function* castEvents(pieces: AsyncIterable<Uint8Array>): AsyncGenerator<CastEvent, void, undefined> {
  const decoder = new TextDecoder();
  let rest = "";
  let hasHeader = false;
  for await (const piece of pieces) {
    const lines = (rest + decoder.decode(piece, { stream: true })).split("\n");
    rest = lines.pop() ?? "";
    if (rest.length > maxLine) throw damaged();
    for (const line of lines) {
      if (hasHeader) yield eventOf(line);
      else if (!isHeader(line)) throw new CliError("the recording is no asciicast of version 2");
      hasHeader = true;
    }
  }
}

function isHeader(line: string): boolean {
  const header = parsed(line);
  return typeof header === "object" && header !== null && "version" in header && header.version === 2;
}

function eventOf(line: string): CastEvent {
  const event = parsed(line);
  if (!isList(event)) throw damaged();
  const [seconds, code, data] = event;
  if (typeof seconds !== "number" || !(seconds >= 0) || typeof code !== "string" || typeof data !== "string") throw damaged();
  return { seconds, code, data };
}

function isList(value: unknown): value is readonly unknown[] {
  return Array.isArray(value);
}

function parsed(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch (cause) {
    throw new CliError("the recording is damaged: a line of it is no JSON", { cause });
  }
}

const damaged = (): CliError => new CliError("the recording is damaged: a line of it is no event");
