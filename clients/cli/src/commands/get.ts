// pitwall get: everything about one VM.
import type { Command } from "commander";
import { inSession, withEndpoint, type EndpointOption } from "../account/session.ts";
import { openColours } from "../output/colours.ts";
import { show, withOutput, type Format } from "../output/format.ts";
import type { Shell } from "../shell.ts";
import { vmDetails } from "../vm/views.ts";

export function declare(command: Command, shell: Shell): void {
  withOutput(withEndpoint(command.argument("<vm>", "name or id")))
    .description("Shows everything about a VM.")
    .action(async (name: string, options: EndpointOption & { readonly output: Format }) =>
      inSession(shell, options, async ({ pitwall }) => {
        const vm = await pitwall.vms.get(name);
        await show(shell, options.output, vmDetails(vm, { colours: openColours(shell.hasColour), nowMs: shell.wallMs() }));
      }),
    );
}
