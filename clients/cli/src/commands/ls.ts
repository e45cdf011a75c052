// pitwall ls: the VMs of a project, or of all.
import type { Command } from "commander";
import { inSession, withEndpoint, type EndpointOption } from "../account/session.ts";
import { projectOption, type ProjectOption } from "../input/project.ts";
import { openColours } from "../output/colours.ts";
import { show, withOutput, type Format } from "../output/format.ts";
import type { Shell } from "../shell.ts";
import { allVms } from "../vm/all-vms.ts";
import { vmTable } from "../vm/views.ts";

interface Options extends EndpointOption, ProjectOption {
  readonly allProjects?: boolean;
  readonly filter?: string;
  readonly orderBy?: string;
  readonly deleted?: boolean;
  readonly output: Format;
}

export function declare(command: Command, shell: Shell): void {
  withOutput(
    withEndpoint(
      command
        .addOption(projectOption())
        .option("-A, --all-projects", "of all projects that you have a role in")
        .option("--filter <filter>", "such as 'phase = RUNNING AND labels.env = prod AND NOT name = \"web*\"'")
        .option("--order-by <field>", "name, create_time, update_time or phase; with ' desc' behind it the other way round")
        .option("--deleted", "also what was removed and can be brought back; shows ids"),
    ),
  )
    .description("Lists VMs.")
    .action(async (options: Options) =>
      inSession(shell, options, async ({ pitwall }) => {
        const { project = "", allProjects = false, filter = "", orderBy = "", deleted = false } = options;
        const vms = await allVms(pitwall, { project: allProjects ? "-" : project, filter, orderBy, showDeleted: deleted });
        if (vms.length === 0 && options.output === "table")
          shell.note(filter === "" ? "there are no VMs: `pitwall run IMAGE` makes one" : "no VM satisfies the filter");
        const appearance = { colours: openColours(shell.hasColour), nowMs: shell.wallMs(), hasProject: allProjects, hasId: deleted };
        await show(shell, options.output, vmTable(vms, appearance));
      }),
    );
}
