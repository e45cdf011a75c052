// pitwall start, pause, suspend, resume, stop and restart: what the owner asks of a VM that exists.
import type { Command } from "commander";
import { inSession, withEndpoint, type EndpointOption } from "../account/session.ts";
import { changeOf, withChange, type ChangedOptions } from "../input/planned.ts";
import { projectOption, vmIn, type ProjectOption } from "../input/project.ts";
import { timeoutOption } from "../input/timeout.ts";
import { openColours } from "../output/colours.ts";
import { show, withOutput, type Format } from "../output/format.ts";
import type { Shell } from "../shell.ts";
import { follow } from "../vm/follow.ts";
import { planView } from "../vm/plan-view.ts";
import { vmTable } from "../vm/views.ts";

interface Options extends EndpointOption, ProjectOption, ChangedOptions {
  readonly wait: boolean;
  readonly timeout: number;
  readonly output: Format;
}

export function declareStart(command: Command, shell: Shell): void {
  const what = "Starts a VM that is stopped or failed, with its disk, lets one that is paused or suspended go on, and waits until it runs.";
  declare(command.description(what), shell, "start");
}

export function declareResume(command: Command, shell: Shell): void {
  declare(command.description("Lets a paused or suspended VM go on where it was; the same as start."), shell, "start");
}

export function declarePause(command: Command, shell: Shell): void {
  const what = "Stops a VM's CPUs and waits until they stand still. It keeps its memory there; `pitwall resume` lets it go on.";
  declare(command.description(what), shell, "pause");
}

export function declareSuspend(command: Command, shell: Shell): void {
  const what =
    "Puts a VM to its node's disk with all that it has in memory, and waits until it is there. It then takes no CPU and no memory; `pitwall resume` lets it go on.";
  declare(command.description(what), shell, "suspend");
}

export function declareStop(command: Command, shell: Shell): void {
  declare(command.description("Stops a VM and waits until it has; its disk is kept."), shell, "stop");
}

export function declareRestart(command: Command, shell: Shell): void {
  declare(command.description("Stops a VM and starts it again, with its disk, and waits until it runs."), shell, "restart");
}

const goalOf = { start: "running", pause: "paused", suspend: "suspended", stop: "stopped", restart: "running" } as const;

function declare(command: Command, shell: Shell, move: keyof typeof goalOf): void {
  withChange(command.argument("<vm>", "name or id"))
    .addOption(projectOption())
    .option("--no-wait", "return as soon as it is asked for")
    .addOption(timeoutOption("how long to wait", 120));
  withOutput(withEndpoint(command)).action(async (name: string, options: Options) =>
    inSession(shell, options, async ({ pitwall }) => {
      const reference = vmIn(options, name);
      if (options.dryRun)
        return show(shell, options.output, planView([await pitwall.vms.plan[move](reference, changeOf(options))], { isOne: true }));
      const asked = await pitwall.vms[move](reference, changeOf(options));
      const vm = options.wait ? await follow(shell, pitwall, asked, goalOf[move], options.timeout) : asked;
      await show(
        shell,
        options.output,
        vmTable([vm ?? asked], { colours: openColours(shell.hasColour), nowMs: shell.wallMs(), isOne: true }),
      );
    }),
  );
}
