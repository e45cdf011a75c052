// Calls to a VM's guest whose requests are a stream: commands with input, and files that are written.
import type { Client } from "nice-grpc-web";
import { present, type CallExtras } from "./calls.ts";
import { ExecStart, type ExecResponse, type FileInfo, type GuestServiceDefinition, type WindowSize } from "./gen/pitwall/v1/guest.ts";

type Guest = Client<typeof GuestServiceDefinition, CallExtras>;

/** At most, of a message: others want to get through meanwhile. */
const partBytes = 32 * 1024;

/** What a command is told while it runs. `signal` is a number, such as 15. */
export type ExecInput = { readonly stdin: Uint8Array } | { readonly resize: WindowSize } | { readonly signal: number };

/** What a command says: output, and last how it ended. */
export type ExecOutput = NonNullable<ExecResponse["message"]>;

export interface ExecOptions {
  /** Its end is the end of the command's standard input. Default: none. */
  readonly input?: AsyncIterable<ExecInput>;
  readonly signal?: AbortSignal;
}

export async function* exec(
  guest: Guest,
  start: Partial<ExecStart> & Pick<ExecStart, "argv">,
  { input, signal }: ExecOptions,
): AsyncGenerator<ExecOutput, void, undefined> {
  async function* requests() {
    yield { message: { $case: "start" as const, value: ExecStart.fromPartial(start) } };
    for await (const each of input ?? []) yield { message: wireInput(each) };
  }
  for await (const { message } of guest.exec(requests(), signal ? { signal } : {})) if (message) yield message;
}

/** To a command that was started by itself; `stdinEnd` ends its standard input, and leaving ends nothing. */
export async function* attachExec(
  guest: Guest,
  execId: string,
  { input, signal }: { readonly input?: AsyncIterable<ExecInput | { readonly stdinEnd: true }>; readonly signal?: AbortSignal },
): AsyncGenerator<ExecOutput, void, undefined> {
  async function* requests() {
    yield { message: { $case: "execId" as const, value: execId } };
    for await (const each of input ?? [])
      yield { message: "stdinEnd" in each ? { $case: "stdinEnd" as const, value: true } : wireInput(each) };
  }
  for await (const { message } of guest.attachExec(requests(), signal ? { signal } : {})) if (message) yield message;
}

export async function writeFile(
  guest: Guest,
  path: string,
  content: Uint8Array | AsyncIterable<Uint8Array>,
  { mode = 0, user = "", signal }: { mode?: number; user?: string; signal?: AbortSignal },
): Promise<FileInfo> {
  async function* requests() {
    yield { message: { $case: "start" as const, value: { path, mode, user } } };
    for await (const chunk of content instanceof Uint8Array ? [content] : content)
      for (let at = 0; at < chunk.length; at += partBytes)
        yield { message: { $case: "data" as const, value: chunk.subarray(at, at + partBytes) } };
    yield { message: { $case: "end" as const, value: true } };
  }
  return present((await guest.writeFile(requests(), signal ? { signal } : {})).file);
}

function wireInput(input: ExecInput) {
  if ("stdin" in input) return { $case: "stdin" as const, value: input.stdin };
  if ("resize" in input) return { $case: "resize" as const, value: input.resize };
  return { $case: "signal" as const, value: input.signal };
}
