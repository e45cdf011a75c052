// pitwall recordings: what SSH sessions showed, where a project has them recorded.
import { open, rename, rm } from "node:fs/promises";
import { resolve } from "node:path";
import { InvalidArgumentError, Option, type Command } from "commander";
import type { Recording } from "@pitwall/sdk";
import { inSession, withEndpoint, type EndpointOption, type Session } from "../account/session.ts";
import { parseCount, parseDurationMs } from "../input/quantities.ts";
import { projectOption, type ProjectOption } from "../input/project.ts";
import { show, withOutput, type Format } from "../output/format.ts";
import { play } from "../recording/play.ts";
import { recordingDetails, recordingTable } from "../recording/views.ts";
import type { Shell } from "../shell.ts";

type Options = EndpointOption & ProjectOption;

interface ListOptions extends Options {
  readonly vm?: string;
  readonly limit: number;
  readonly output: Format;
}

interface ReplayOptions extends Options {
  readonly speed: number;
  readonly idle?: number;
}

const idHelp = "as `pitwall recordings ls` shows it";

export function declare(command: Command, shell: Shell): void {
  const list = command
    .command("ls")
    .addOption(projectOption())
    .option("--vm <vm>", "name or id; of those that are gone, too")
    .option("-n, --limit <count>", "how many, newest first", parseCount, 50);
  withOutput(withEndpoint(list))
    .description("Lists the recordings of a project, newest first. For its owners, as are all of these commands.")
    .action(async ({ project = "", vm = "", limit, ...options }: ListOptions) =>
      inSession(shell, options, async ({ pitwall }) => {
        const found: Recording[] = [];
        for await (const recording of pitwall.sessions.recordings({ project, vm })) {
          found.push(recording);
          if (found.length >= limit) break;
        }
        await show(shell, options.output, recordingTable(found, shell.wallMs()));
      }),
    );
  withOutput(withEndpoint(command.command("show").argument("<id>", idHelp).addOption(projectOption())))
    .description("Shows whose it is, and how it ended.")
    .action(async (id: string, { project = "", ...options }: Options & { readonly output: Format }) =>
      inSession(shell, options, async ({ pitwall }) =>
        show(shell, options.output, recordingDetails(await pitwall.sessions.recording(project, id))),
      ),
    );
  const replay = command
    .command("replay")
    .argument("<id>", idHelp)
    .addOption(projectOption())
    .addOption(new Option("--speed <factor>", "such as 2 or 0.5").argParser(parseSpeed).default(1))
    .addOption(new Option("--idle <duration>", "the longest pause, such as 2s; default: as it was").argParser(parseDurationMs));
  withEndpoint(replay)
    .description(
      "Shows a recording on this terminal as it was, but for what would make the terminal do more than show it. Into a file or pipe goes its text. The audit log has an entry of that.",
    )
    .action(async (id: string, { project = "", speed, idle, ...options }: ReplayOptions) =>
      inSession(shell, options, ({ pitwall }) =>
        play(shell, pitwall.sessions.readRecording(project, id, { signal: shell.signals.signal }), { speed, idleMs: idle }),
      ),
    );
  const save = command.command("export").argument("<id>", idHelp).argument("<file>", "where to; a file that is there is replaced");
  withEndpoint(save.addOption(projectOption()))
    .description("Writes a recording to a file, as an asciicast of version 2: any player of those plays it.")
    .action(async (id: string, file: string, { project = "", ...options }: Options) =>
      inSession(shell, options, (session) => exportTo(resolve(shell.folder, file), shell, session, project, id)),
    );
  withEndpoint(command.command("rm").argument("<id...>", idHelp).addOption(projectOption()))
    .description("Removes recordings. The audit log has an entry of each.")
    .action(async (ids: readonly string[], { project = "", ...options }: Options) =>
      inSession(shell, options, async ({ pitwall }) => {
        for (const id of ids) await pitwall.sessions.deleteRecording(project, id);
      }),
    );
}

function parseSpeed(text: string): number {
  const speed = /^\d{1,4}(\.\d{1,3})?$/.test(text) ? Number(text) : 0;
  if (speed < 0.01) throw new InvalidArgumentError("Expected a factor such as 2 or 0.5.");
  return speed;
}

/** The file is there when all of it is. */
async function exportTo(file: string, shell: Shell, { pitwall }: Session, project: string, id: string): Promise<void> {
  const partial = `${file}.partial`;
  const out = await open(partial, "w", 0o600);
  try {
    for await (const piece of pitwall.sessions.readRecording(project, id, { signal: shell.signals.signal })) await out.write(piece);
    await out.close();
    await rename(partial, file);
  } catch (error) {
    await out.close().catch(() => undefined); // the first error counts
    await rm(partial, { force: true });
    throw error;
  }
}
