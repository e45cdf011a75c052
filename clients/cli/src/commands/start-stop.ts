// pitwall start and pitwall stop: what the owner asks of a VM that exists.
import type { Command } from "commander";
import { inSession, withEndpoint, type EndpointOption } from "../account/session.ts";
import { timeoutOption } from "../input/timeout.ts";
import { openColours } from "../output/colours.ts";
import { show, withOutput, type Format } from "../output/format.ts";
import type { Shell } from "../shell.ts";
import { follow } from "../vm/follow.ts";
import { vmTable } from "../vm/views.ts";

interface Options extends EndpointOption {
  readonly wait: boolean;
  readonly timeout: number;
  readonly output: Format;
}

export function declareStart(command: Command, shell: Shell): void {
  declare(command.description("Starts a VM that is stopped or failed, with its disk, and waits until it runs."), shell, "running");
}

export function declareStop(command: Command, shell: Shell): void {
  declare(command.description("Stops a VM and waits until it has; its disk is kept."), shell, "stopped");
}

function declare(command: Command, shell: Shell, goal: "running" | "stopped"): void {
  command
    .argument("<vm>", "name or id")
    .option("--no-wait", "return as soon as it is asked for")
    .addOption(timeoutOption("how long to wait", 120));
  withOutput(withEndpoint(command)).action(async (name: string, options: Options) =>
    inSession(shell, options, async ({ pitwall }) => {
      const asked = await (goal === "running" ? pitwall.vms.start(name) : pitwall.vms.stop(name));
      const vm = options.wait ? await follow(shell, pitwall, asked, goal, options.timeout) : asked;
      await show(
        shell,
        options.output,
        vmTable([vm ?? asked], { colours: openColours(shell.hasColour), nowMs: shell.wallMs(), isOne: true }),
      );
    }),
  );
}
