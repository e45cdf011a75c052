// pitwall net: what the network of a VM's node did not let it.
import type { Command } from "commander";
import { inSession, withEndpoint, type EndpointOption } from "../account/session.ts";
import { projectOption, vmIn, type ProjectOption } from "../input/project.ts";
import { show, withOutput, type Format } from "../output/format.ts";
import type { Shell } from "../shell.ts";
import { deniedTable } from "../vm/denied-view.ts";

type Options = EndpointOption & ProjectOption & { readonly output: Format };

export function declare(command: Command, shell: Shell): void {
  withOutput(withEndpoint(command.command("denied").argument("<vm>", "name or id").addOption(projectOption())))
    .description(
      "Lists where a VM tried to send to within the last hour, and was not let, the latest first: by its own rules (`pitwall update --egress`), or by its node's.",
    )
    .action(async (name: string, options: Options) =>
      inSession(shell, options, async ({ pitwall }) => {
        const denied = await pitwall.vms.deniedFlows(vmIn(options, name));
        await show(shell, options.output, deniedTable(denied, shell.wallMs()));
        if (denied.unlistedPackets > 0n && options.output === "table")
          shell.note(`and ${denied.unlistedPackets} packets of flows beyond those that are remembered of one VM`);
      }),
    );
}
