// pitwall logs: what the image's own process wrote.
import type { Command } from "commander";
import { inSession, withEndpoint, type EndpointOption } from "../account/session.ts";
import { parseCount, parseDurationMs } from "../input/quantities.ts";
import { LogText } from "../output/terminal-text.ts";
import type { Shell } from "../shell.ts";

interface Options extends EndpointOption {
  readonly follow?: boolean;
  readonly tail?: number;
  readonly since?: number;
}

export function declare(command: Command, shell: Shell): void {
  withEndpoint(
    command
      .argument("<vm>", "name or id")
      .option("-f, --follow", "go on as more is written, until Ctrl-C")
      .option("-n, --tail <lines>", "only the last lines", parseCount)
      .option("--since <duration>", "only what was written in the last 90s, 5m, 1h, …", parseDurationMs),
  )
    .description("Prints what the image's process wrote to its stdout and stderr: the last 1 MiB of it.")
    .action(async (name: string, options: Options) =>
      inSession(shell, options, ({ pitwall }) => {
        const { follow = false, tail: tailLines = 0, since } = options;
        const from = since === undefined ? {} : { since: new Date(shell.wallMs() - since) };
        return print(shell, pitwall.readLogs(name, { follow, tailLines, ...from, signal: shell.signals.signal }));
      }),
    );
}

/** Bytes as they are into a file or pipe; made safe for a terminal, one reader per stream as their characters may interleave. */
async function print(shell: Shell, pieces: AsyncIterable<{ readonly stream: number; readonly data: Uint8Array }>): Promise<void> {
  const texts = new Map<number, LogText>();
  for await (const { stream, data } of pieces) {
    const text = texts.get(stream) ?? new LogText(shell.hasColour);
    texts.set(stream, text);
    shell.out(shell.outIsTerminal ? text.push(data) : data);
  }
}
