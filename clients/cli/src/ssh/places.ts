// What a server says of its SSH addresses and host keys, checked before it becomes part of a command or a file. No I/O.
import type { Discovery, Vm } from "@pitwall/sdk";
import { CliError } from "../failure.ts";

const uuid = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;
const vmName = /^[a-z0-9-]{1,63}$/;
const hostKey = /^ssh-ed25519 [A-Za-z0-9+/]{68}$/;
const hostName = /^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$/;
const ipv6 = /^[0-9a-fA-F:]+(%[A-Za-z0-9]+)?$/;
const anyAddress: ReadonlySet<string> = new Set(["", "0.0.0.0", "::"]);

/** Host and port to dial. A gateway that listens on all addresses is where its endpoint is. */
export function gatewayAddress({ sshHost, sshPort }: Discovery, endpoint: string): { host: string; port: number } {
  const host = anyAddress.has(sshHost) ? new URL(endpoint).hostname.replace(/^\[(.*)\]$/, "$1") : sshHost;
  if (!(hostName.test(host) || ipv6.test(host)) || !Number.isInteger(sshPort) || sshPort < 1 || sshPort > 65_535) {
    throw new CliError(`the gateway at ${endpoint} names no usable SSH address: ${JSON.stringify(`${sshHost}:${sshPort}`)}`);
  }
  return { host, port: sshPort };
}

/** A line of a known_hosts file. Throws when it is not exactly one ed25519 key. */
export function knownHostsLine(alias: string, key: string, whose: string): string {
  if (!hostKey.test(key)) throw new CliError(`the SSH host key of ${whose} is not known or damaged: ${JSON.stringify(key.slice(0, 100))}`);
  return `${alias} ${key}\n`;
}

/** Names without a dot, as the jump takes them, and on the usual port, which is named by no colon: no other host is to be believed by this. */
const vmHosts = "*,!*.*,!*:*";

/** Lines of a known_hosts file for plain `ssh -J`: the gateway's key, and the authority of the keys of all VMs, those to come included. */
export function knownHosts(discovery: Discovery, endpoint: string, authority: string): string {
  const { host, port } = gatewayAddress(discovery, endpoint);
  const gateway = knownHostsLine(port === 22 ? host : `[${host}]:${port}`, discovery.sshHostKey, `the gateway at ${endpoint}`);
  if (authority === "") throw new CliError(`the server at ${endpoint} is of a version that certifies no host keys`);
  if (!hostKey.test(authority)) throw new CliError(`the authority of host keys at ${endpoint} is damaged`);
  return `${gateway}@cert-authority ${vmHosts} ${authority}\n`;
}

/** The VM's id, which becomes a file name and a host name, and its name, which becomes a pattern of ~/.ssh/config. */
export function checkedVm({ id, name }: Pick<Vm, "id" | "name">): { id: string; name: string } {
  if (!uuid.test(id) || !vmName.test(name)) {
    throw new CliError(`the server speaks of a VM by what are no id and name: ${JSON.stringify(`${id} ${name}`.slice(0, 200))}`);
  }
  return { id, name };
}

/** A project's name, which becomes part of a pattern. */
export function checkedProject(name: string): string {
  if (!vmName.test(name)) throw new CliError(`the server speaks of a project by what is no name: ${JSON.stringify(name.slice(0, 100))}`);
  return name;
}

/** `[USER@]VM`. Throws when either can be none. */
export function parseDestination(text: string): { user: string | undefined; vm: string } {
  const at = text.lastIndexOf("@");
  const user = at < 0 ? undefined : text.slice(0, at);
  const vm = text.slice(at + 1);
  if ((user !== undefined && !/^[A-Za-z_][A-Za-z0-9_.-]{0,31}$/.test(user)) || vm === "")
    throw new CliError(`${JSON.stringify(text)} is no [USER@]VM`, { exitCode: 2 });
  return { user, vm };
}
