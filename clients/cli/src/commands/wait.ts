// pitwall wait: until a VM is where it should be.
import { Option, type Command } from "commander";
import { PitwallRpcError } from "@pitwall/sdk";
import { inSession, withEndpoint, type EndpointOption } from "../account/session.ts";
import { projectOption, vmIn, type ProjectOption } from "../input/project.ts";
import { timeoutOption } from "../input/timeout.ts";
import type { Shell } from "../shell.ts";
import { follow } from "../vm/follow.ts";
import { goals, type Goal } from "../vm/goal.ts";

interface Options extends EndpointOption, ProjectOption {
  readonly for: Goal;
  readonly timeout: number;
}

export function declare(command: Command, shell: Shell): void {
  withEndpoint(
    command
      .argument("<vm>", "name or id")
      .addOption(projectOption())
      .addOption(new Option("--for <state>", "what to wait for").choices(goals).default("running"))
      .addOption(timeoutOption("how long", 120)),
  )
    .description("Waits until a VM runs, is paused, suspended, stopped or gone; fails when it failed or time is up.")
    .action(async (name: string, options: Options) =>
      inSession(shell, options, async ({ pitwall }) => {
        const vm = await pitwall.vms.get(vmIn(options, name)).catch((error: unknown) => {
          if (options.for === "gone" && error instanceof PitwallRpcError && error.code === "NOT_FOUND") return undefined;
          throw error;
        });
        if (vm) await follow(shell, pitwall, vm, options.for, options.timeout);
      }),
    );
}
