// A VM to which stock OpenSSH has four ways, and the command lines of each.
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Phase } from "@pitwall/sdk";
import { clientsImage, testImage } from "./image.ts";
import { run } from "./run.ts";
import { startTestStack, type TestStack } from "./stack.ts";

const bin = join(import.meta.dirname, "..", "..", "node_modules", ".bin", "pitwall");

/** The gateway's door; a jump through the gateway; `pitwall ssh`; and ssh with what `pitwall ssh-config` prints. */
export const ways = ["door", "inside", "cli", "file"] as const;
export type Way = (typeof ways)[number];

export interface SshLine {
  /** ssh's; those of `pitwall ssh` on that way. */
  readonly options?: readonly string[];
  readonly command?: readonly string[];
  /** Instead of the VM `box`, as the configuration names it; not by `pitwall ssh`. */
  readonly host?: string;
}

/** Disposing it stops all of it. */
export interface SshPlace extends AsyncDisposable {
  readonly pitwall: TestStack;
  /** For files of tests. */
  readonly dir: string;
  /** Of `box`, which runs. */
  readonly vmId: string;
  /** Of `halted`, which does not; `team/web` does, too. */
  readonly haltedId: string;
  /** A configuration with the hosts `door`, `dev-door`, `inside`, `dev-inside`, `jump`, and the key of the test's user. */
  readonly config: string;
  /** What `pitwall` needs to know. */
  readonly env: NodeJS.ProcessEnv;
  line(way: Way, line: SshLine): string[];
  /** The same configuration with another key, or with other host keys; its file. */
  configWith(other: { identity?: string; doorKey?: string; vmKey?: string }): Promise<string>;
}

export async function startSshPlace(): Promise<SshPlace> {
  await using parts = new AsyncDisposableStack();
  const dir = await mkdtemp(join(tmpdir(), "pitwall-clients-"));
  parts.defer(() => rm(dir, { recursive: true, force: true }));
  const pitwall = parts.use(await startTestStack({ env: { gateway: { PITWALL_SSH_SESSIONS: "100", PITWALL_SSH_CHANNELS: "100" } } }));
  const { stack } = pitwall;
  const client = stack.client();
  const image = await testImage(pitwall.provisioned.cacheDir, clientsImage);
  await client.vms.create({ name: "box", spec: { image } });
  const { id: haltedId } = await client.vms.create({ name: "halted", spec: { image: pitwall.image } });
  await client.vms.stop("halted");
  await client.projects.create("team");
  await client.vms.create({ project: "team", name: "web", spec: { image: pitwall.image } });
  await client.vms.delete((await client.vms.create({ name: "gone", spec: { image: pitwall.image } })).id);
  const { id: vmId, sshHostKey } = await client.vms.wait("box");
  await client.vms.wait("team/web");
  await client.vms.wait("halted", { phases: [Phase.PHASE_STOPPED] });

  const usual = pitwall.ssh.options[pitwall.ssh.options.indexOf("-i") + 1] ?? "";
  let written = 0;
  const configWith: SshPlace["configWith"] = async ({ identity = usual, doorKey = stack.sshHostKey, vmKey = sshHostKey }) => {
    const file = join(dir, `config-${written++}`);
    const { ssh } = stack.ports;
    const door = ["  HostName 127.0.0.1", `  Port ${ssh}`];
    const inside = ["  HostName box", "  HostKeyAlias box", "  ProxyJump jump"];
    await writeFile(`${file}-hosts`, `[127.0.0.1]:${ssh} ${doorKey}\nbox ${vmKey}\n`);
    const lines = [
      ...["Host door", ...door, "  User box", "Host dev-door", ...door, "  User dev+box", "Host jump", ...door, "  User jump"],
      ...["Host inside", ...inside, "  User root", "Host dev-inside", ...inside, "  User dev"],
      ...["Host *", `  IdentityFile ${identity}`, "  IdentitiesOnly yes"],
      ...[`  UserKnownHostsFile ${file}-hosts`, "  StrictHostKeyChecking yes", "  LogLevel ERROR", "  ExitOnForwardFailure yes"],
    ];
    await writeFile(file, `${lines.join("\n")}\n`);
    return file;
  };
  const config = await configWith({});
  const env = { XDG_CONFIG_HOME: dir, PITWALL_ENDPOINT: stack.endpoint, PITWALL_TOKEN: await stack.token(), NO_COLOR: "1" };
  const printed = await run([bin, "ssh-config", "box"], { env });
  if (printed.code !== 0) throw new Error(`pitwall ssh-config: ${printed.stderr}`);
  const configFile = join(dir, "printed");
  await writeFile(configFile, printed.stdout);
  const kept = parts.move();
  return {
    ...{ pitwall, dir, vmId, haltedId, config, env, configWith },
    line(way, { options = [], command = [], host }) {
      if (way === "cli") return [bin, "ssh", ...options, "box", ...(command.length > 0 ? ["--", ...command] : [])];
      const file = way === "file" ? configFile : config;
      return ["ssh", "-F", file, ...options, host ?? (way === "file" ? "pitwall-box" : way), ...command];
    },
    [Symbol.asyncDispose]: () => kept.disposeAsync(),
  };
}
