// pitwall get: everything about one VM.
import type { Command } from "commander";
import { inSession, withEndpoint, type EndpointOption } from "../account/session.ts";
import { projectOption, vmIn, type ProjectOption } from "../input/project.ts";
import { openColours } from "../output/colours.ts";
import { show, withOutput, type Format } from "../output/format.ts";
import type { Shell } from "../shell.ts";
import { vmDetails } from "../vm/views.ts";

export function declare(command: Command, shell: Shell): void {
  withOutput(withEndpoint(command.argument("<vm>", "name or id").addOption(projectOption())))
    .description("Shows everything about a VM.")
    .action(async (name: string, options: EndpointOption & ProjectOption & { readonly output: Format }) =>
      inSession(shell, options, async ({ pitwall }) => {
        const vm = await pitwall.vms.get(vmIn(options, name));
        await show(shell, options.output, vmDetails(vm, { colours: openColours(shell.hasColour), nowMs: shell.wallMs() }));
      }),
    );
}
