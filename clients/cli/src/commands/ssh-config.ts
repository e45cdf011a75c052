// pitwall ssh-config: what plain ssh, scp, sftp and rsync need to know of VMs.
import type { Command } from "commander";
import { discover, PitwallRpcError, ProjectRole, type Vm } from "@pitwall/sdk";
import { inSession, withEndpoint, type EndpointOption, type Session } from "../account/session.ts";
import { CliError, usageError } from "../failure.ts";
import { projectOption, vmIn, type ProjectOption } from "../input/project.ts";
import type { Shell } from "../shell.ts";
import { openSshAccess } from "../ssh/access.ts";
import { chosenKey, withKey, type KeyOption } from "../ssh/chosen-key.ts";
import { asHostBlock, type SshOption } from "../ssh/options.ts";
import { checkedProject, checkedVm, knownHosts } from "../ssh/places.ts";
import { allVms } from "../vm/all-vms.ts";

interface Options extends EndpointOption, KeyOption, ProjectOption {
  readonly allProjects?: boolean;
  readonly knownHosts?: boolean;
}

export function declare(command: Command, shell: Shell): void {
  withKey(withEndpoint(command))
    .argument("[vm...]", "names, PROJECT/NAME or ids (default: all of the project that have run)")
    .addOption(projectOption())
    .option("-A, --all-projects", "of all projects whose VMs you may enter")
    .option("--known-hosts", "instead: lines for known_hosts, by which `ssh -J jump@GATEWAY NAME` knows all VMs that you may enter")
    .description(
      "Prints a block for ~/.ssh/config per VM, so that `ssh pitwall-NAME`, for those of other projects than your personal one `ssh pitwall-NAME.PROJECT`, scp, sftp and rsync work.",
    )
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
            ? await Promise.all(names.map((name) => vms.get(vmIn(options, name))))
            : (await enterable(session, options)).filter(({ sshHostKey }) => sshHostKey !== "");
        const personal = await personalProject(session);
        const access = await openSshAccess(shell, session, await chosenKey(options, shell.folder));
        for (const vm of wanted) {
          if (vm.sshHostKey === "") throw new CliError(`${vm.name} has no SSH host key yet: try again when it runs`);
          const { user, options: way } = await access.wayTo(vm, undefined);
          const hostName: SshOption[] = way.some(([keyword]) => keyword === "HostName") ? [] : [["HostName", vm.id]];
          shell.out(`${asHostBlock(hostOf(vm, personal), [...hostName, ["User", user], ...way])}\n`);
        }
      }),
    );
}

/** A dot is in no name of either: no two VMs have the same host. A slash would make a local file of it for scp and rsync. */
function hostOf(vm: Vm, personal: string): string {
  const { name } = checkedVm(vm);
  return vm.project === personal ? `pitwall-${name}` : `pitwall-${name}.${checkedProject(vm.project)}`;
}

async function enterable({ pitwall }: Session, { project = "", allProjects = false }: Options): Promise<Vm[]> {
  if (!allProjects) return allVms(pitwall, { project });
  const projects = await pitwall.projects.list();
  const viewed = new Set(projects.filter(({ role }) => role === ProjectRole.PROJECT_ROLE_VIEWER).map(({ name }) => name));
  return (await allVms(pitwall, { project: "-" })).filter((vm) => !viewed.has(vm.project));
}

/** What is meant where no project is named; empty for an API token that may not ask. */
async function personalProject({ pitwall }: Session): Promise<string> {
  try {
    return (await pitwall.projects.get("")).name;
  } catch (error) {
    if (error instanceof PitwallRpcError && error.code === "PERMISSION_DENIED") return "";
    throw error;
  }
}

async function knownHostsOf({ endpoint, pitwall }: Session, names: readonly string[], { signals }: Shell): Promise<string> {
  if (names.length > 0) throw usageError("--known-hosts is about all VMs: name none");
  const [discovery, { sshHostAuthority }] = await Promise.all([discover(endpoint, signals.signal), pitwall.getProfile()]);
  return knownHosts(discovery, endpoint, sshHostAuthority);
}
