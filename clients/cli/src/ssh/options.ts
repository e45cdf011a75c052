// The options by which OpenSSH reaches a VM: through the gateway, which sees ciphertext only, with both host keys pinned; or, where sessions
// are recorded, at the gateway, which logs in to the VM itself. No I/O.
// Spelling for a command line and for ~/.ssh/config is one: a list of keyword and value.
import { CliError } from "../failure.ts";

/** The gateway's user name for connections that only jump; `services/gateway/src/ssh/target.ts`. */
const jumpUser = "jump";
const sshPort = 22;

/** A place to log in to, with the one host key it may show. */
export interface SshPlace {
  /** What the key is known by in `knownHosts`. */
  readonly alias: string;
  /** A file that holds that key alone. */
  readonly knownHosts: string;
}

export interface SshGateway extends SshPlace {
  readonly host: string;
  readonly port: number;
}

export interface SshVm extends SshPlace {
  /** UUID: a name may belong to another VM by the time it is used. */
  readonly id: string;
}

export type SshOption = readonly [keyword: string, value: string];

/** Everything but the destination. `key` is the file of the private key. */
export function sshOptions(vm: SshVm, gateway: SshGateway, key: string): SshOption[] {
  return [...pinned(vm, key), ["ProxyCommand", proxyCommand(vm, gateway, key)]];
}

/** The same to the gateway's own door: `user` in the VM is part of the name that is logged in with, {@link doorUser}. */
export function doorOptions(gateway: SshGateway, key: string): SshOption[] {
  return [...pinned(gateway, key), ["HostName", gateway.host], ["Port", String(gateway.port)]];
}

/** `services/gateway/src/ssh/target.ts` reads it. */
export function doorUser({ id }: Pick<SshVm, "id">, user: string): string {
  return user === "root" ? id : `${user}+${id}`;
}

/** Only this key, and only this host. */
export function pinned({ alias, knownHosts }: SshPlace, key: string): SshOption[] {
  return [
    ["IdentityFile", quoted(key)],
    ["IdentitiesOnly", "yes"],
    ["PreferredAuthentications", "publickey"],
    ["HostKeyAlias", alias],
    ["UserKnownHostsFile", quoted(knownHosts)],
    ["GlobalKnownHostsFile", "/dev/null"],
    ["StrictHostKeyChecking", "yes"],
    ["UpdateHostKeys", "no"],
  ];
}

/** A shell command that is the byte stream to the VM's SSH server. ssh takes `%%` in it for one `%`. */
export function proxyCommand(vm: SshVm, gateway: SshGateway, key: string): string {
  const args = [
    "-F",
    "none",
    ...asArguments(pinned(gateway, key)),
    "-p",
    String(gateway.port),
    "-W",
    `${vm.id}:${sshPort}`,
    "--",
    `${jumpUser}@${gateway.host}`,
  ];
  return ["ssh", ...args].map(shellWord).join(" ").replaceAll("%", "%%");
}

/** `-o keyword=value …` */
export function asArguments(options: readonly SshOption[]): string[] {
  return options.flatMap(([keyword, value]) => ["-o", `${keyword}=${value}`]);
}

/** A `Host` block of ~/.ssh/config. */
export function asHostBlock(pattern: string, options: readonly SshOption[]): string {
  return [`Host ${pattern}`, ...options.map(([keyword, value]) => `  ${keyword} ${value}`), ""].join("\n");
}

/** A path as a value that ssh does not split, with its own tokens kept from it. */
function quoted(path: string): string {
  if (/["\n]|\$\{/.test(path))
    throw new CliError(`ssh cannot use the file ${JSON.stringify(path)}: its path holds characters that ssh gives a meaning`);
  const escaped = path.replaceAll("%", "%%");
  return /\s/.test(escaped) ? `"${escaped}"` : escaped;
}

/** One word for any POSIX shell. */
export function shellWord(word: string): string {
  return /^[A-Za-z0-9_@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
}
