// pitwall lock: keeps everybody out of a VM, or a user out of all and of the API.
import type { Command } from "commander";
import { Lock } from "@pitwall/sdk";
import { inSession, withEndpoint, type EndpointOption } from "../account/session.ts";
import { projectOption, vmIn, type ProjectOption } from "../input/project.ts";
import { show, withOutput, type Format } from "../output/format.ts";
import { table } from "../output/table.ts";
import { ageWord } from "../output/words.ts";
import type { Shell } from "../shell.ts";

type Options = EndpointOption & ProjectOption;

const reasonHelp = "told to who is kept out";

export function declare(command: Command, shell: Shell): void {
  withEndpoint(command.command("vm").argument("<vm>", "name or id").addOption(projectOption()).option("--reason <text>", reasonHelp))
    .description(
      "Keeps everybody out of a VM: what is open into it ends within seconds, and nothing new is opened. It runs on. For owners.",
    )
    .action(async (vm: string, { reason = "", ...options }: Options & { readonly reason?: string }) =>
      inSession(shell, options, ({ pitwall }) => pitwall.sessions.lockVm(vmIn(options, vm), reason)),
    );
  withEndpoint(command.command("user").argument("<subject>", "as `pitwall whoami` shows it").option("--reason <text>", reasonHelp))
    .description("Keeps a user out of all VMs and the API, by whatever they have; what is open ends within seconds. For administrators.")
    .action(async (subject: string, { reason = "", ...options }: EndpointOption & { readonly reason?: string }) =>
      inSession(shell, options, ({ pitwall }) => pitwall.sessions.lockUser(subject, reason)),
    );
  withEndpoint(command.command("release-vm").argument("<vm>", "name or id").addOption(projectOption()))
    .description("Lets people into a VM again.")
    .action(async (vm: string, options: Options) =>
      inSession(shell, options, ({ pitwall }) => pitwall.sessions.unlockVm(vmIn(options, vm))),
    );
  withEndpoint(command.command("release-user").argument("<subject>", "as `pitwall lock ls --all` shows it"))
    .description("Lets a user in again.")
    .action(async (subject: string, options: EndpointOption) =>
      inSession(shell, options, ({ pitwall }) => pitwall.sessions.unlockUser(subject)),
    );
  withOutput(
    withEndpoint(command.command("ls").addOption(projectOption()).option("--all", "of all projects and of users; for administrators")),
  )
    .description("Lists what is locked.")
    .action(async ({ project = "", all = false, ...options }: Options & { readonly all?: boolean; readonly output: Format }) =>
      inSession(shell, options, async ({ pitwall }) => {
        const locks = await pitwall.sessions.locks(all ? "-" : project);
        await show(shell, options.output, {
          table: () =>
            table(
              ["VM", "USER", "BY", "AGE", "REASON"],
              locks.map(({ vm, subject, createdBy, createTime, reason }) => [
                vm,
                subject,
                createdBy,
                ageWord(createTime, shell.wallMs()),
                reason,
              ]),
            ),
          json: locks.map((lock) => Lock.toJSON(lock)),
          names: locks.map(({ vm, subject }) => vm || subject),
        });
      }),
    );
}
