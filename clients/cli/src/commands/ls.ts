// pitwall ls: the VMs of a project, or of all.
import { Option, type Command } from "commander";
import { Phase, type Vm } from "@pitwall/sdk";
import { inSession, withEndpoint, type EndpointOption, type Session } from "../account/session.ts";
import { projectOption, type ProjectOption } from "../input/project.ts";
import { openColours } from "../output/colours.ts";
import { show, withOutput, type Format, type View } from "../output/format.ts";
import { LiveList } from "../output/live.ts";
import type { Shell } from "../shell.ts";
import { allVms } from "../vm/all-vms.ts";
import { vmTable, type Appearance } from "../vm/views.ts";

interface Options extends EndpointOption, ProjectOption {
  readonly allProjects?: boolean;
  readonly filter?: string;
  readonly orderBy?: string;
  readonly deleted?: boolean;
  readonly watch?: boolean;
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
        .addOption(
          new Option("-w, --watch", "go on with what changes, until Ctrl-C: drawn anew on a terminal, else a line each").conflicts([
            ...["filter", "orderBy", "deleted"],
          ]),
        )
        .option("--deleted", "also what was removed and can be brought back; shows ids"),
    ),
  )
    .description("Lists VMs.")
    .action(async (options: Options) =>
      inSession(shell, options, async ({ pitwall }) => {
        const { project = "", allProjects = false, filter = "", orderBy = "", deleted = false } = options;
        const appearance = { colours: openColours(shell.hasColour), nowMs: shell.wallMs(), hasProject: allProjects, hasId: deleted };
        if (options.watch) return follow(shell, pitwall, { ...options, project: allProjects ? "-" : project }, appearance);
        const vms = await allVms(pitwall, { project: allProjects ? "-" : project, filter, orderBy, showDeleted: deleted });
        if (vms.length === 0 && options.output === "table")
          shell.note(filter === "" ? "there are no VMs: `pitwall run IMAGE` makes one" : "no VM satisfies the filter");
        await show(shell, options.output, vmTable(vms, appearance));
      }),
    );
}

/** Until Ctrl-C. What is gone or removed is told of as that. */
async function follow(
  shell: Shell,
  { vms }: Session["pitwall"],
  { output, project }: Options & { readonly project: string },
  appearance: Appearance,
): Promise<void> {
  const idOf = ({ id }: Vm): string => id;
  const view = (items: readonly Vm[]): View => vmTable(items, { ...appearance, nowMs: shell.wallMs() });
  const list = new LiveList<Vm>({ shell, format: output, idOf, view });
  let drawing = Promise.resolve();
  const onSynced = (): void => void (drawing = list.synced());
  for await (const { vm } of vms.watch({ project, onSynced, signal: shell.signals.signal })) {
    await drawing;
    await list.change(vm, { isGone: vm.phase === Phase.PHASE_GONE || vm.deleteTime !== undefined });
  }
}
