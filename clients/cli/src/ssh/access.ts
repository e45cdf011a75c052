// The way into VMs for this user: the key, the gateway's address, and files with the host keys that ssh must see.
import { createHash } from "node:crypto";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { discover, PitwallRpcError, type Project, type Vm } from "@pitwall/sdk";
import { configFolder, readIfThere, replaceFile } from "../account/config-folder.ts";
import type { Session } from "../account/session.ts";
import { CliError } from "../failure.ts";
import type { Shell } from "../shell.ts";
import { loginFor } from "./login.ts";
import { checkedVm, gatewayAddress, knownHostsLine } from "./places.ts";
import { ownKey } from "./own-key.ts";
import { doorOptions, doorUser, sshOptions, type SshGateway, type SshOption } from "./options.ts";

const gatewayAlias = "pitwall-gateway";

/** What ssh is told of a VM and a user in it. */
export interface SshWayIn {
  /** Who to log in as: the user in the VM, unless it is the gateway that logs in there. */
  readonly user: string;
  readonly options: readonly SshOption[];
}

export interface SshAccess {
  /** Once the host keys are pinned in files; without `user` as who is usual. Throws when the VM has none yet, and for a user that one may not be. */
  wayTo(vm: Vm, user: string | undefined): Promise<SshWayIn>;
}

/** `key` is the user's own choice of a private key file; without one, Pitwall's own key is used and registered. */
export async function openSshAccess({ env, signals }: Shell, session: Session, key: string | undefined): Promise<SshAccess> {
  const folder = configFolder(env);
  const [discovery, keyFile] = await Promise.all([
    discover(session.endpoint, signals.signal),
    key ?? ownKey(folder, session, signals.signal),
  ]);
  const digest = createHash("sha256").update(session.endpoint).digest("hex").slice(0, 16);
  const gateway: SshGateway = {
    ...gatewayAddress(discovery, session.endpoint),
    alias: gatewayAlias,
    knownHosts: await pin(
      hostsFile(folder, `gateway-${digest}`),
      knownHostsLine(gatewayAlias, discovery.sshHostKey, `the gateway at ${session.endpoint}`),
    ),
  };
  const projects = new Map<string, Promise<Project | undefined>>();
  return {
    async wayTo(vm, asked) {
      const { id, name } = checkedVm(vm);
      const asking = projects.get(vm.project) ?? settingsOf(session, vm.project);
      projects.set(vm.project, asking);
      const project = await asking;
      const user = project ? loginFor(project, name, asked) : (asked ?? "root");
      if (project?.recordSessions === true) return { user: doorUser({ id }, user), options: doorOptions(gateway, keyFile) };
      const knownHosts = await pinVm(hostsFile(folder, id), vm, knownHostsLine(id, vm.sshHostKey, `the VM ${name}`));
      return { user, options: sshOptions({ id, alias: id, knownHosts }, gateway, keyFile) };
    },
  };
}

/** What the gateway and the VM will demand. A token that may not ask goes the usual way, and is told by them. */
async function settingsOf({ pitwall }: Session, project: string): Promise<Project | undefined> {
  try {
    return await pitwall.projects.get(project);
  } catch (error) {
    if (error instanceof PitwallRpcError && error.code === "PERMISSION_DENIED") return undefined;
    throw error;
  }
}

/** Removes what {@link SshAccess.wayTo} wrote for a VM that is gone. */
export async function forgetHostKey(env: Shell["env"], vm: Vm): Promise<void> {
  await rm(hostsFile(configFolder(env), checkedVm(vm).id), { force: true });
}

/** A VM that begins anew elsewhere has a new key; where it is, it keeps the one that it has. Throws when it has not. */
async function pinVm(file: string, { name, epoch }: Vm, line: string): Promise<string> {
  const placed = `# placement ${epoch}\n`;
  const known = await readIfThere(file);
  if (known?.startsWith(placed) && known !== placed + line) throw changedKey(name, file);
  return pin(file, placed + line);
}

function changedKey(name: string, file: string): CliError {
  return new CliError(
    `the SSH host key of the VM ${name} is not the one that it had, and it has not moved: somebody may be listening. The project's audit log ` +
      `says when it changed (HostKeyChanged). If you know why, remove ${file}`,
  );
}

function hostsFile(folder: string, name: string): string {
  return join(folder, "ssh", "hosts", name);
}

/** One file per host: nothing is shared between processes that write at the same time. */
async function pin(file: string, line: string): Promise<string> {
  if ((await readIfThere(file)) !== line) await replaceFile(file, line);
  return file;
}
