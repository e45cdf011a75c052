// pitwall ssh: stock OpenSSH into a VM.
import type { Command } from "commander";
import { Phase, type Vm } from "@pitwall/sdk";
import { inSession, withEndpoint, type EndpointOption, type Session } from "../account/session.ts";
import { runChild } from "../child.ts";
import { CliError } from "../failure.ts";
import { addItem } from "../input/pairs.ts";
import { projectOption, vmIn, type ProjectOption } from "../input/project.ts";
import { phaseWord } from "../output/words.ts";
import type { Shell } from "../shell.ts";
import { configFolder } from "../account/config-folder.ts";
import { openSshAccess } from "../ssh/access.ts";
import { certifiedKey, type CertifiedKey } from "../ssh/certificate.ts";
import { chosenKey, withKey, type KeyOption } from "../ssh/chosen-key.ts";
import { asArguments } from "../ssh/options.ts";
import { checkedVm, parseDestination } from "../ssh/places.ts";
import { follow } from "../vm/follow.ts";
import { describeState } from "../vm/goal.ts";

const bootLimitMs = 120_000;
/** Coming to it wakes it, as whoever comes: with an entry in the audit log, and held to the project's rules. */
const asleep: ReadonlySet<Phase> = new Set([Phase.PHASE_SUSPENDING, Phase.PHASE_SUSPENDED, Phase.PHASE_RESUMING]);
const onItsWay: ReadonlySet<Phase> = new Set([Phase.PHASE_PENDING, Phase.PHASE_PLACED, Phase.PHASE_PREPARING, Phase.PHASE_BOOTING]);

interface Options extends EndpointOption, KeyOption, ProjectOption {
  readonly tty?: boolean;
  readonly forward?: readonly string[];
  readonly reverse?: readonly string[];
  readonly dynamic?: readonly string[];
  readonly forwardOnly?: boolean;
}

export function declare(command: Command, shell: Shell): void {
  withKey(withEndpoint(command))
    .argument("<destination>", "[USER@]VM, a name, PROJECT/NAME or an id; the user is root unless said, or whom the project lets you be")
    .argument("[command...]", "what to run instead of a shell; put -- before it")
    .addOption(projectOption())
    .option("-t, --tty", "a terminal for the command")
    .option("-L, --forward <spec>", "as ssh's -L, such as 8000:localhost:80; may be repeated", addItem)
    .option("-R, --reverse <spec>", "as ssh's -R: a port in the VM that leads back to here; may be repeated", addItem)
    .option("-D, --dynamic <spec>", "as ssh's -D: a SOCKS proxy into the VM on this port; may be repeated", addItem)
    .option("-N, --forward-only", "run nothing: only forward")
    .description(
      "Logs in to a VM with OpenSSH, by a certificate that is made for this one login from your sign-in. The connection goes through the " +
        "gateway, which cannot read it; both host keys are pinned. Where sessions are recorded the gateway itself logs in to the VM, and says so. " +
        "Returns ssh's exit code, which is the command's own. For scp, sftp and rsync see `pitwall ssh-config`.",
    )
    .action(async (destination: string, words: readonly string[], options: Options) => {
      const { args, key } = await inSession(shell, options, (session) => sshArguments(shell, session, destination, words, options));
      await using _key = key;
      // The shell that runs the ProxyCommand must be one whose quoting is known.
      shell.endWith(await runChild("ssh", args, shell.signals, { env: { ...shell.env, SHELL: "/bin/sh" } }));
    });
}

async function sshArguments(
  shell: Shell,
  session: Session,
  destination: string,
  words: readonly string[],
  options: Options,
): Promise<{ readonly args: string[]; readonly key: CertifiedKey | undefined }> {
  const { user, vm: name } = parseDestination(destination);
  const chosen = await chosenKey(options, shell.folder);
  const vm = await session.pitwall.vms.get(vmIn(options, name)).then((found) => running(shell, session, found));
  await using parts = new AsyncDisposableStack();
  const key = chosen === undefined ? await certifiedKey(configFolder(shell.env), session, vm) : undefined;
  if (key) parts.use(key);
  const access = await openSshAccess(shell, session, chosen ?? key?.file);
  const way = await access.wayTo(vm, user);
  const args = [
    ...["-F", "none", ...asArguments(way.options)],
    ...(options.tty === true ? ["-t"] : []),
    ...(options.forwardOnly === true ? ["-N"] : []),
    ...(options.forward ?? []).flatMap((spec) => ["-L", spec]),
    ...(options.reverse ?? []).flatMap((spec) => ["-R", spec]),
    ...(options.dynamic ?? []).flatMap((spec) => ["-D", spec]),
    ...["--", `${way.user}@${checkedVm(vm).name}`, ...words],
  ];
  parts.move(); // who asked for it disposes of the key
  return { args, key };
}

/** A VM on its way is waited for, here or by the gateway when it wakes; one that nobody asked to run is not. */
async function running(shell: Shell, { pitwall }: Session, vm: Vm): Promise<Vm> {
  if (vm.phase === Phase.PHASE_RUNNING) return vm;
  if (asleep.has(vm.phase)) {
    shell.note(`${vm.name} is ${phaseWord(vm.phase)}: it wakes`);
    return vm;
  }
  if (!onItsWay.has(vm.phase)) throw new CliError(`${describeState(vm)}; \`pitwall start ${vm.name}\` starts it`);
  return (await follow(shell, pitwall, vm, "running", bootLimitMs)) ?? vm;
}
