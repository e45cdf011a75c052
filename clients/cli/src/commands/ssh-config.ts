// pitwall ssh-config: what plain ssh, scp, sftp and rsync need to know of VMs.
import type { Command } from "commander";
import { inSession, withEndpoint, type EndpointOption } from "../account/session.ts";
import { CliError } from "../failure.ts";
import type { Shell } from "../shell.ts";
import { openSshAccess } from "../ssh/access.ts";
import { chosenKey, withKey, type KeyOption } from "../ssh/chosen-key.ts";
import { asHostBlock, type SshOption } from "../ssh/options.ts";
import { checkedVm } from "../ssh/places.ts";
import { allVms } from "../vm/all-vms.ts";

export function declare(command: Command, shell: Shell): void {
  withKey(withEndpoint(command))
    .argument("[vm...]", "names or ids (default: all of yours that have run)")
    .description("Prints a block for ~/.ssh/config per VM, so that `ssh pitwall-NAME`, scp, sftp and rsync work.")
    .addHelpText(
      "after",
      "\nExample:\n  pitwall ssh-config > ~/.ssh/pitwall.conf    # once, at the top of ~/.ssh/config: Include pitwall.conf",
    )
    .action(async (names: readonly string[], options: EndpointOption & KeyOption) =>
      inSession(shell, options, async (session) => {
        const { vms } = session.pitwall;
        const wanted =
          names.length > 0
            ? await Promise.all(names.map((name) => vms.get(name)))
            : (await allVms(session.pitwall)).filter(({ sshHostKey }) => sshHostKey !== "");
        const access = await openSshAccess(shell, session, await chosenKey(options, shell.folder));
        for (const vm of wanted) {
          if (vm.sshHostKey === "") throw new CliError(`${vm.name} has no SSH host key yet: try again when it runs`);
          const { user, options: way } = await access.wayTo(vm, undefined);
          const hostName: SshOption[] = way.some(([keyword]) => keyword === "HostName") ? [] : [["HostName", vm.id]];
          shell.out(`${asHostBlock(`pitwall-${checkedVm(vm).name}`, [...hostName, ["User", user], ...way])}\n`);
        }
      }),
    );
}
