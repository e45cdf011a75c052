// A gateway, and a node whose VM is an sshd of this machine: no VM's speed is in what is measured, and all else is what production runs.
import { userInfo } from "node:os";
import { readFile, writeFile } from "node:fs/promises";
import { connect } from "node:net";
import { join } from "node:path";
import { eventually, startInstallation, throughGateway } from "@pitwall/controller/tests/support/installation.ts";
import { startProcess } from "@pitwall/controller/tests/support/processes.ts";
import { joinNode, reportOf, stayHeard } from "@pitwall/controller/tests/support/spoken-node.ts";
import { openTunnels } from "@pitwall/node/src/tunnels/tunnel.ts";
import { JoinRole } from "@pitwall/proto/pitwall/v1/node.ts";
import type { TunnelTarget } from "@pitwall/proto/pitwall/v1/access.ts";
import { command } from "@pitwall/quickstart";
import { noFailpoints, silentLog, systemClock } from "@pitwall/runtime";
import { cipher, startSshd } from "./ssh-peers.ts";

const vmName = "box";
const heartbeatMs = 800;

/** Ways to the same sshd: through the gateway's door, by a jump through the gateway, and by OpenSSH's own jump. */
export type Way = "door" | "jump" | "peer";

/** Disposing it stops all of it. */
export interface SshWorld extends AsyncDisposable {
  /** The command line that runs `words` there. */
  line(way: Way, ...words: string[]): readonly string[];
  readonly gatewayPid: number;
  /** For clients that are no commands. `key` is the file of the private key. */
  readonly door: { readonly port: number; readonly username: string; readonly key: string };
}

/** `settings` are the gateway's. */
export async function startSshWorld(settings: Readonly<Record<string, string>> = {}): Promise<SshWorld> {
  await using parts = new AsyncDisposableStack();
  const installation = parts.use(await startInstallation());
  const controller = parts.use(await installation.startController({ PITWALL_READS_PER_SECOND: "0", PITWALL_CHANGES_PER_SECOND: "0" }));
  const joinText = async (): Promise<string> =>
    (await controller.admin.nodes.createJoinToken({ role: JoinRole.JOIN_ROLE_GATEWAY, name: "gateway" })).join;
  const gateway = parts.use(
    await startProcess("gateway", {
      ...{ PITWALL_STATE_DIR: join(installation.dir, "gateway"), PITWALL_ISSUER: installation.issuer, PITWALL_JOIN: await joinText() },
      ...{ PITWALL_LISTEN: "127.0.0.1:0", PITWALL_SSH_LISTEN: "127.0.0.1:0", PITWALL_TUNNEL_LISTEN: "127.0.0.1:0" },
      ...settings,
    }),
  );
  const dir = installation.dir;
  const target = parts.use(await startSshd(join(dir, "target")));
  const jumpHost = parts.use(await startSshd(join(dir, "jump")));
  const key = join(dir, "id_ed25519");
  await command("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-f", key]);
  const publicKey = (await readFile(`${key}.pub`, "utf8")).trim();
  for (const sshd of [target, jumpHost]) await sshd.letIn(publicKey);
  const api = throughGateway(Number(gateway.ready["web"]), await installation.token());
  await api.profile.addSshKey({ publicKey });

  const node = await joinNode(installation, controller.admin, "host");
  const link = parts.use(await node.link(controller.link));
  void stayHeard(link, heartbeatMs);
  const { vm } = await api.vms.createVm({ name: vmName, spec: { image: installation.image } });
  const assignment = await eventually(() => link.assignments.find(({ vmId }) => vmId === vm?.id));
  const report = { ...reportOf(assignment), sshHostKey: target.hostKey };
  link.say({ $case: "report", value: report });
  const dial = async ({ target: where }: TunnelTarget): Promise<ReturnType<typeof connect>> => {
    if (where?.$case === "ssh") await target.letIn(where.value.sessionKey);
    return connect({ host: "127.0.0.1", port: target.port, noDelay: true, allowHalfOpen: true });
  };
  const tunnels = openTunnels({
    ...{ identity: node.identity, clock: systemClock, failpoints: noFailpoints, log: silentLog },
    machines: { get: () => ({ report, dial }) },
  });
  parts.defer(() => tunnels.close());
  const stop = new AbortController();
  parts.defer(() => stop.abort());
  void serveTunnels(link.heard, tunnels, stop.signal);

  const config = join(dir, "ssh_config");
  const user = userInfo().username;
  const hosts = join(dir, "known_hosts");
  const port = Number(gateway.ready["ssh"]);
  const local = (at: number): string[] => ["  HostName 127.0.0.1", `  Port ${at}`];
  const known = [
    `[127.0.0.1]:${port} ${String(gateway.ready["sshHostKey"])}`,
    `[127.0.0.1]:${jumpHost.port} ${jumpHost.hostKey}`,
    `target ${target.hostKey}`,
  ];
  await writeFile(hosts, `${known.join("\n")}\n`);
  const lines = [
    ...["Host door", ...local(port), `  User ${user}+${vmName}`],
    ...["Host gateway-jump", ...local(port), "  User jump"],
    ...["Host jump", `  HostName ${vmName}`, "  HostKeyAlias target", "  ProxyJump gateway-jump", `  User ${user}`],
    ...["Host peer-jump", ...local(jumpHost.port), `  User ${user}`],
    ...["Host peer", ...local(target.port), "  HostKeyAlias target", "  ProxyJump peer-jump", `  User ${user}`],
    ...["Host *", `  IdentityFile ${key}`, "  IdentitiesOnly yes", "  IdentityAgent none", `  UserKnownHostsFile ${hosts}`],
    ...["  StrictHostKeyChecking yes", "  LogLevel ERROR", `  Ciphers ${cipher}`, "  Compression no"],
  ];
  await writeFile(config, `${lines.join("\n")}\n`);
  const kept = parts.move();
  return {
    line: (way, ...words) => ["ssh", "-F", config, way, ...words],
    gatewayPid: gateway.pid,
    door: { port, username: `${user}+${vmName}`, key },
    [Symbol.asyncDispose]: () => kept.disposeAsync(),
  };
}

async function serveTunnels(
  heard: Awaited<ReturnType<Awaited<ReturnType<typeof joinNode>>["link"]>>["heard"],
  tunnels: ReturnType<typeof openTunnels>,
  signal: AbortSignal,
): Promise<void> {
  for (let next = 0; !signal.aborted; await systemClock.sleep(1)) {
    for (const message of heard.slice(next)) if (message.$case === "tunnel") void tunnels.open(message.value);
    next = heard.length;
  }
}
