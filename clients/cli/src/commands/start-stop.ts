// pitwall start, stop and restart: what the owner asks of a VM that exists.
import type { Command } from "commander";
import { inSession, withEndpoint, type EndpointOption } from "../account/session.ts";
import { projectOption, vmIn, type ProjectOption } from "../input/project.ts";
import { timeoutOption } from "../input/timeout.ts";
import { openColours } from "../output/colours.ts";
import { show, withOutput, type Format } from "../output/format.ts";
import type { Shell } from "../shell.ts";
import { follow } from "../vm/follow.ts";
import { vmTable } from "../vm/views.ts";

interface Options extends EndpointOption, ProjectOption {
  readonly wait: boolean;
  readonly timeout: number;
  readonly output: Format;
}

export function declareStart(command: Command, shell: Shell): void {
  declare(command.description("Starts a VM that is stopped or failed, with its disk, and waits until it runs."), shell, "start");
}

export function declareStop(command: Command, shell: Shell): void {
  declare(command.description("Stops a VM and waits until it has; its disk is kept."), shell, "stop");
}

export function declareRestart(command: Command, shell: Shell): void {
  declare(command.description("Stops a VM and starts it again, with its disk, and waits until it runs."), shell, "restart");
}

const goalOf = { start: "running", stop: "stopped", restart: "running" } as const;

function declare(command: Command, shell: Shell, move: keyof typeof goalOf): void {
  command
    .argument("<vm>", "name or id")
    .addOption(projectOption())
    .option("--no-wait", "return as soon as it is asked for")
    .addOption(timeoutOption("how long to wait", 120));
  withOutput(withEndpoint(command)).action(async (name: string, options: Options) =>
    inSession(shell, options, async ({ pitwall }) => {
      const asked = await pitwall.vms[move](vmIn(options, name));
      const vm = options.wait ? await follow(shell, pitwall, asked, goalOf[move], options.timeout) : asked;
      await show(
        shell,
        options.output,
        vmTable([vm ?? asked], { colours: openColours(shell.hasColour), nowMs: shell.wallMs(), isOne: true }),
      );
    }),
  );
}
