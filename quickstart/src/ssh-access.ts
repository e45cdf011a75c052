// A key and a known_hosts file of the stack's own, so that plain ssh works without a question and touches nothing of the user's.
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { exists } from "@pitwall/runtime";
import { command } from "./provision/command.ts";
import type { Stack } from "./stack/stack.ts";

export interface SshAccess {
  readonly publicKey: string;
  /** Options for ssh and scp alike; the port is not among them. */
  readonly options: readonly string[];
  /** The whole command for a VM. */
  commandFor(vm: string): string[];
}

/** Makes key and known_hosts below the stack's state folder. */
export async function openSshAccess({ stateDir, ports, sshHostKey }: Pick<Stack, "stateDir" | "ports" | "sshHostKey">): Promise<SshAccess> {
  const dir = join(stateDir, "ssh");
  await mkdir(dir, { recursive: true, mode: 0o700 });
  const key = join(dir, "id_ed25519");
  if (!(await exists(key))) await command("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-C", "pitwall", "-f", key]);
  const knownHosts = join(dir, "known_hosts");
  await writeFile(knownHosts, `[127.0.0.1]:${ports.ssh} ${sshHostKey}\n`);
  const options = [
    "-F",
    "/dev/null",
    "-i",
    key,
    "-o",
    "IdentitiesOnly=yes",
    "-o",
    `UserKnownHostsFile=${knownHosts}`,
    "-o",
    "StrictHostKeyChecking=yes",
  ];
  return {
    publicKey: (await readFile(`${key}.pub`, "utf8")).trim(),
    options,
    commandFor: (vm) => ["ssh", ...options, "-p", String(ports.ssh), `${vm}@127.0.0.1`],
  };
}
