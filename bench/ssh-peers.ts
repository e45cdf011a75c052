// OpenSSH's server on this machine, twice: a jump host, and what stands for a VM behind it and behind the gateway alike.
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { appendFile, mkdir, readFile, writeFile } from "node:fs/promises";
import { userInfo } from "node:os";
import { join } from "node:path";
import { command } from "@pitwall/quickstart";
import { freePort, systemClock } from "@pitwall/runtime";
import { isUp } from "./processes.ts";

export const peerCommands = { sshd: "openssh-server" };

/** What all ways use. */
export const cipher = "aes128-gcm@openssh.com";
const upLimitMs = 10_000;
const lookMs = 20;

/** Disposing it stops it. */
export interface Sshd extends AsyncDisposable {
  readonly port: number;
  /** `ssh-ed25519 AAAA…` */
  readonly hostKey: string;
  /** Lets in who has this key, as the user who runs this. */
  letIn(publicKey: string): Promise<void>;
}

/** `dir` is a new folder of its own. */
export async function startSshd(dir: string): Promise<Sshd> {
  await mkdir(dir, { recursive: true, mode: 0o700 });
  const port = await freePort();
  const [hostKey, keys, config] = ["host_key", "authorized_keys", "config"].map((name) => join(dir, name)) as [string, string, string];
  await command("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-f", hostKey]);
  await writeFile(keys, "", { mode: 0o600 });
  const lines = [
    ...[`Port ${port}`, "ListenAddress 127.0.0.1", `HostKey ${hostKey}`, "PidFile none", "UsePAM no", "StrictModes no"],
    ...[`AuthorizedKeysFile ${keys}`, "PasswordAuthentication no", "KbdInteractiveAuthentication no", "PermitRootLogin prohibit-password"],
    ...[`AllowUsers ${userInfo().username}`, "MaxStartups 1000", "MaxSessions 1000", "UseDNS no", `Ciphers ${cipher}`, "LogLevel FATAL"],
  ];
  await writeFile(config, `${lines.join("\n")}\n`);
  if (process.getuid?.() === 0) await mkdir("/run/sshd", { recursive: true });
  const [program = ""] = (await command("sh", ["-c", "PATH=$PATH:/usr/sbin command -v sshd"])).trim().split("\n"); // it wants to be called by its whole path
  const child = spawn(program, ["-D", "-e", "-f", config], { stdio: ["ignore", "ignore", "inherit"] });
  await untilUp(child, port);
  return {
    port,
    hostKey: (await readFile(`${hostKey}.pub`, "utf8")).trim().split(" ").slice(0, 2).join(" "),
    letIn: (publicKey) => appendFile(keys, `${publicKey}\n`),
    async [Symbol.asyncDispose]() {
      if (child.exitCode !== null || !child.kill()) return;
      await once(child, "exit");
    },
  };
}

async function untilUp(child: ChildProcess, port: number): Promise<void> {
  const deadline = systemClock.monotonicMs() + upLimitMs;
  while (!(await isUp(port))) {
    if (child.exitCode !== null) throw new Error(`sshd ended with code ${child.exitCode}`);
    if (systemClock.monotonicMs() > deadline) throw new Error("sshd does not listen");
    await systemClock.sleep(lookMs);
  }
}
