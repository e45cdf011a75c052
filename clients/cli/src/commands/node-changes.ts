// pitwall nodes cordon, uncordon, drain, fence, revoke, rm: what administrators do to nodes.
import type { Command } from "commander";
import { DrainAction, DrainStep, Node } from "@pitwall/sdk";
import { inSession, withEndpoint, type EndpointOption } from "../account/session.ts";
import { CliError, usageError } from "../failure.ts";
import { show, withOutput, type Format } from "../output/format.ts";
import { table } from "../output/table.ts";
import { plain } from "../output/terminal-text.ts";
import { drainActionWord } from "../output/words.ts";
import type { Shell } from "../shell.ts";

type Options = EndpointOption;
export type SureOptions = Options & { readonly yes?: boolean };
type DrainOptions = SureOptions & { readonly dryRun?: boolean; readonly output: Format };

export function declareChanges(command: Command, shell: Shell): void {
  const declare = (name: string, description: string): Command =>
    withEndpoint(command.command(name).argument("<node>", "name or id").description(description));

  declare("cordon", "Places nothing more on a node.").action(async (name: string, options: Options) =>
    inSession(shell, options, async ({ pitwall }) => {
      const { name: node } = await pitwall.fleet.cordon(name);
      shell.note(`nothing more is placed on ${plain(node)}`);
    }),
  );
  declare("uncordon", "Places VMs on a node again, and ends its drain.").action(async (name: string, options: Options) =>
    inSession(shell, options, async ({ pitwall }) => {
      const { name: node } = await pitwall.fleet.uncordon(name);
      shell.note(`VMs are placed on ${plain(node)} again`);
    }),
  );
  withOutput(sure(declare("drain", "Cordons a node and moves or stops its VMs.")))
    .option("--dry-run", "only say what would become of each VM")
    .action(async (name: string, options: DrainOptions) =>
      inSession(shell, options, ({ pitwall }) => drain(shell, pitwall.fleet, name, options)),
    );
  sure(declare("fence", "Says that a node is switched off for certain: VMs that may be rescheduled begin anew elsewhere at once.")).action(
    async (name: string, options: SureOptions) =>
      inSession(shell, options, async ({ pitwall }) => {
        await confirm(shell, options, name, `If ${plain(name)} still runs, its VMs may run twice.`);
        await pitwall.fleet.fence(name);
        shell.note(`${plain(name)} is fenced`);
      }),
  );
  withOutput(
    sure(declare("revoke", "Refuses a node's certificate from now on and cuts its link: for one that somebody else has taken over.")),
  )
    .option("--dry-run", "only say what would become of each VM")
    .action(async (name: string, options: DrainOptions) =>
      inSession(shell, options, ({ pitwall }) => revoke(shell, pitwall.fleet, name, options)),
    );
  sure(declare("rm", "Forgets a node and takes its certificate back.")).action(async (name: string, options: SureOptions) =>
    inSession(shell, options, async ({ pitwall }) => {
      await confirm(shell, options, name, `${plain(name)} will have to join again.`);
      await pitwall.fleet.remove(name);
      shell.note(`${plain(name)} is removed`);
    }),
  );
}

type Fleet = Parameters<Parameters<typeof inSession>[2]>[0]["pitwall"]["fleet"];

async function drain(shell: Shell, fleet: Fleet, name: string, options: DrainOptions): Promise<void> {
  const planned = await fleet.drain(name, { dryRun: true });
  if (options.dryRun) return showSteps(shell, options.output, planned);
  const lost = planned.steps.filter(({ action }) => action === DrainAction.DRAIN_ACTION_MOVE).length;
  const stopped = planned.steps.filter(({ action }) => action === DrainAction.DRAIN_ACTION_STOP).length;
  if (lost + stopped > 0) {
    const effect = `${lost} VMs begin anew elsewhere with an empty disk, ${stopped} are stopped (--dry-run lists them).`;
    await confirm(shell, options, planned.node.name, effect);
  }
  await showSteps(shell, options.output, await fleet.drain(name));
}

async function revoke(shell: Shell, fleet: Fleet, name: string, options: DrainOptions): Promise<void> {
  const planned = await fleet.revoke(name, { dryRun: true });
  if (options.dryRun) return showSteps(shell, options.output, planned);
  const lost = planned.steps.filter(({ action }) => action === DrainAction.DRAIN_ACTION_MOVE).length;
  const kept = planned.steps.filter(({ action }) => action === DrainAction.DRAIN_ACTION_STAY).length;
  const effect = `${plain(name)} is cut off for good: ${lost} VMs begin anew elsewhere with an empty disk, ${kept} are reached by nobody (--dry-run lists them).`;
  await confirm(shell, options, planned.node.name, effect);
  await showSteps(shell, options.output, await fleet.revoke(name));
}

async function showSteps(
  shell: Shell,
  format: Format,
  { node, steps }: { readonly node: Node; readonly steps: readonly DrainStep[] },
): Promise<void> {
  await show(shell, format, {
    table: () =>
      table(
        ["VM", "BECOMES", "NODE", "WHY"],
        steps.map(({ vmName, action, toNodeName, message }) => [vmName, drainActionWord(action), toNodeName, message]),
      ),
    json: { node: Node.toJSON(node), steps: steps.map((step) => DrainStep.toJSON(step)) },
    names: steps.map(({ vmName }) => vmName),
  });
}

function sure(command: Command): Command {
  return command.option("-y, --yes", "do not ask");
}

/** Resolves when somebody has typed its name, or has said so before. */
export async function confirm(shell: Shell, { yes }: SureOptions, name: string, effect: string, what = "node"): Promise<void> {
  if (yes) return;
  if (!shell.ask) throw usageError(`${effect} Nobody can be asked here: add --yes if that is meant`);
  const answer = await shell.ask(`${effect} Type the ${what}'s name to go on: `);
  if (answer.trim() !== name) throw new CliError(`nothing was done: that was not the ${what}'s name`);
}
