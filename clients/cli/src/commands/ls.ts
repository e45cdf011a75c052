// pitwall ls: all of the caller's VMs.
import type { Command } from "commander";
import { inSession, withEndpoint, type EndpointOption } from "../account/session.ts";
import { openColours } from "../output/colours.ts";
import { show, withOutput, type Format } from "../output/format.ts";
import type { Shell } from "../shell.ts";
import { allVms } from "../vm/all-vms.ts";
import { vmTable } from "../vm/views.ts";

export function declare(command: Command, shell: Shell): void {
  withOutput(withEndpoint(command))
    .description("Lists your VMs.")
    .action(async (options: EndpointOption & { readonly output: Format }) =>
      inSession(shell, options, async ({ pitwall }) => {
        const vms = await allVms(pitwall);
        if (vms.length === 0 && options.output === "table") shell.note("you have no VMs: `pitwall run IMAGE` makes one");
        await show(shell, options.output, vmTable(vms, { colours: openColours(shell.hasColour), nowMs: shell.wallMs() }));
      }),
    );
}
