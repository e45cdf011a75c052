// pitwall rm: removes VMs with their disks.
import type { Command } from "commander";
import type { Vm } from "@pitwall/sdk";
import { explained, inSession, withEndpoint, type EndpointOption, type Session } from "../account/session.ts";
import { CliError, messageChain, usageError } from "../failure.ts";
import { changeOf, withChange, type ChangedOptions } from "../input/planned.ts";
import { projectOption, vmIn, type ProjectOption } from "../input/project.ts";
import { timeoutOption } from "../input/timeout.ts";
import { show, withOutput, type Format } from "../output/format.ts";
import { plain } from "../output/terminal-text.ts";
import type { Shell } from "../shell.ts";
import { forgetHostKey } from "../ssh/access.ts";
import { follow } from "../vm/follow.ts";
import { planView } from "../vm/plan-view.ts";

interface Options extends EndpointOption, ProjectOption, ChangedOptions {
  readonly output: Format;
  readonly wait: boolean;
  readonly timeout: number;
}

export function declare(command: Command, shell: Shell): void {
  withOutput(
    withEndpoint(
      withChange(command.argument("<vm...>", "names or ids"), "what would be lost")
        .addOption(projectOption())
        .option("--no-wait", "return as soon as it is asked for")
        .addOption(timeoutOption("how long to wait for each to be gone", 60)),
    ),
  )
    .description("Removes VMs and their disks, and waits until they are gone. A project may keep them for a while: `pitwall undelete`.")
    .action(async (names: readonly string[], options: Options) =>
      inSession(shell, options, async (session) => {
        const references = [...new Set(names)].map((name) => vmIn(options, name));
        if (references.length > 1 && (options.plan ?? options.etag) !== undefined) throw usageError("--plan and --etag are of one VM");
        if (!options.dryRun) return remove(shell, session, references, options);
        const plans = await Promise.all(references.map((vm) => session.pitwall.vms.plan.delete(vm, changeOf(options))));
        return show(shell, options.output, planView(plans, { isOne: plans.length === 1 }));
      }),
    );
}

/** Asks for all first, so that they go at the same time. One that cannot be removed does not keep the others. */
async function remove(shell: Shell, session: Session, names: readonly string[], options: Options): Promise<void> {
  const failures: unknown[] = [];
  const attempt = async <T>(work: () => Promise<T>): Promise<T | undefined> => {
    try {
      return await work();
    } catch (error) {
      shell.signals.signal.throwIfAborted();
      failures.push(error);
      if (names.length > 1) shell.note(`error: ${plain(messageChain(explained(shell, session, error)))}`);
      return undefined;
    }
  };
  const asked: Vm[] = [];
  for (const name of names) {
    const vm = await attempt(() => session.pitwall.vms.delete(name, changeOf(options)));
    if (vm?.deleteTime) shell.note(kept(vm));
    else if (vm) asked.push(vm);
  }
  for (const vm of options.wait ? asked : []) {
    await attempt(async () => {
      await follow(shell, session.pitwall, vm, "gone", options.timeout);
      await forgetHostKey(shell.env, vm);
      shell.note(`${plain(vm.name)} is gone`);
    });
  }
  if (failures.length === 0) return;
  throw names.length === 1
    ? failures[0]
    : new CliError(failures.length === 1 ? "one VM was not removed" : `${failures.length} VMs were not removed`);
}

/** Its project keeps it for a while. */
function kept({ name, id, purgeTime }: Vm): string {
  return `${plain(name)} is removed; until ${purgeTime?.toISOString() ?? ""} \`pitwall undelete ${id}\` brings it back`;
}
