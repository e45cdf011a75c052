// pitwall ssh-config: what plain ssh, scp, sftp and rsync need to know of VMs.
import type { Command } from "commander";
import { discover } from "@pitwall/sdk";
import { inSession, withEndpoint, type EndpointOption, type Session } from "../account/session.ts";
import { CliError } from "../failure.ts";
import type { Shell } from "../shell.ts";
import { openSshAccess } from "../ssh/access.ts";
import { chosenKey, withKey, type KeyOption } from "../ssh/chosen-key.ts";
import { asHostBlock, type SshOption } from "../ssh/options.ts";
import { checkedVm, knownHosts } from "../ssh/places.ts";
import { allVms } from "../vm/all-vms.ts";

interface Options extends EndpointOption, KeyOption {
  readonly knownHosts?: boolean;
}

export function declare(command: Command, shell: Shell): void {
  withKey(withEndpoint(command))
    .argument("[vm...]", "names or ids (default: all of yours that have run)")
    .option("--known-hosts", "instead: lines for known_hosts, by which `ssh -J jump@GATEWAY NAME` knows all VMs that you may enter")
    .description("Prints a block for ~/.ssh/config per VM, so that `ssh pitwall-NAME`, scp, sftp and rsync work.")
    .addHelpText(
      "after",
      "\nExample:\n  pitwall ssh-config > ~/.ssh/pitwall.conf    # once, at the top of ~/.ssh/config: Include pitwall.conf" +
        "\n  pitwall ssh-config --known-hosts >> ~/.ssh/known_hosts",
    )
    .action(async (names: readonly string[], options: Options) =>
      inSession(shell, options, async (session) => {
        if (options.knownHosts === true) return shell.out(await knownHostsOf(session, names, shell));
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

async function knownHostsOf({ endpoint, pitwall }: Session, names: readonly string[], { signals }: Shell): Promise<string> {
  if (names.length > 0) throw new CliError("--known-hosts is about all VMs: name none", { exitCode: 2 });
  const [discovery, { sshHostAuthority }] = await Promise.all([discover(endpoint, signals.signal), pitwall.getProfile()]);
  return knownHosts(discovery, endpoint, sshHostAuthority);
}
