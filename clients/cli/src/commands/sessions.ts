// pitwall sessions: what is open into VMs, watched and ended.
import type { Command } from "commander";
import { inSession, withEndpoint, type EndpointOption } from "../account/session.ts";
import { CliError } from "../failure.ts";
import { projectOption, type ProjectOption } from "../input/project.ts";
import { show, withOutput, type Format } from "../output/format.ts";
import { play } from "../recording/play.ts";
import { sessionTable } from "../recording/views.ts";
import type { Shell } from "../shell.ts";

type Options = EndpointOption & ProjectOption;

const idHelp = "as `pitwall sessions ls` shows it";

export function declare(command: Command, shell: Shell): void {
  withOutput(withEndpoint(command.command("ls").addOption(projectOption())))
    .description("Lists what is open into a project's VMs: SSH, and calls that act in them.")
    .action(async ({ project = "", ...options }: Options & { readonly output: Format }) =>
      inSession(shell, options, async ({ pitwall }) =>
        show(shell, options.output, sessionTable(await pitwall.sessions.list(project), shell.wallMs())),
      ),
    );
  withEndpoint(command.command("join").argument("<id>", idHelp).addOption(projectOption()))
    .description(
      "Shows what a recorded session shows, from its beginning and as it goes on; nothing can be typed into it. For owners. Ctrl-C leaves.",
    )
    .action(async (id: string, { project = "", ...options }: Options) =>
      inSession(shell, options, async ({ pitwall }) => {
        const session = (await pitwall.sessions.list(project)).find((one) => one.id === id);
        if (!session) throw new CliError("there is no such session; `pitwall sessions ls` shows those that are open");
        const recording = session.recordingIds.at(-1);
        if (recording === undefined)
          throw new CliError("the session is not recorded, and only those can be joined: `pitwall project update --record-sessions on`");
        const follow = { follow: true, signal: shell.signals.signal };
        await play(shell, pitwall.sessions.readRecording(project, recording, follow), undefined);
      }),
    );
  withEndpoint(command.command("end").argument("<id...>", idHelp).addOption(projectOption()))
    .description("Ends sessions, within seconds: your own, or any as an owner of the project.")
    .action(async (ids: readonly string[], { project = "", ...options }: Options) =>
      inSession(shell, options, async ({ pitwall }) => {
        for (const id of ids) await pitwall.sessions.end(project, id);
      }),
    );
}
