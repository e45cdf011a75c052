// A worker with its own network, mounts and processes: nothing that it breaks is anybody else's, and all of it is gone with its first
// process, however that ends.
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** What the namespaces begin with: files in memory, an `ip netns` and an iptables lock of its own, a loopback device. Then the command. */
const inside = `
set -e
mount -t tmpfs -o mode=755 tmpfs /run
mount -t tmpfs -o mode=755 tmpfs /mnt
mount -t tmpfs -o mode=755,size=8g tmpfs "$1"
ip link set lo up
shift
"$@" &
wait $!`;

/** What worlds need of the kernel. */
const probe = `
set -e
ip link add br0 type bridge
ip netns add n0
ip link add v0 type veth peer name eth0 netns n0
ip netns exec n0 iptables -A INPUT -m statistic --mode random --probability 0.1 -j DROP
ip netns exec n0 iptables -A OUTPUT -p tcp -j REJECT --reject-with tcp-reset
tc qdisc add dev v0 root tbf rate 1mbit burst 4kb latency 400ms`;

const isolate = ["--net", "--mount", "--pid", "--fork", "--kill-child=SIGKILL", "--mount-proc", "--propagation", "private"];

/** Runs a command in namespaces of its own, with an empty folder in memory that is its and whose name is the command's last argument. */
async function spawnIsolated(command: readonly string[], stdio: "ipc" | "pipe"): Promise<ChildProcess> {
  const dir = await mkdtemp(join(tmpdir(), "pitwall-process-"));
  const child = spawn("unshare", [...isolate, "sh", "-c", inside, "sh", dir, ...command, dir], {
    stdio: stdio === "ipc" ? ["ignore", "inherit", "inherit", "ipc"] : ["ignore", "pipe", "pipe"],
  });
  child.once("close", () => void rm(dir, { recursive: true, force: true })); // an empty mount point by now
  child.once("error", () => void rm(dir, { recursive: true, force: true }));
  return child;
}

/** Why worlds cannot be made here; undefined: they can. */
export async function whyNotIsolated(): Promise<string | undefined> {
  if (process.getuid?.() !== 0) return "only root may make network namespaces here";
  const child = await spawnIsolated(["sh", "-c", probe, "sh"], "pipe");
  let said = "";
  child.stderr?.setEncoding("utf8").on("data", (text: string) => (said += text));
  const [code] = (await Promise.race([once(child, "close"), once(child, "error").then(() => [-1])])) as [number | null];
  return code === 0 ? undefined : `namespaces, veth, iptables and tc are needed: ${said.trim().split("\n").at(-1) ?? "unshare failed"}`;
}

/** Starts a program of Node's in namespaces of its own; its last argument is its folder. Messages go both ways. Killing it ends all in them. */
export function startIsolated(program: string, args: readonly string[]): Promise<ChildProcess> {
  return spawnIsolated([process.execPath, "--disable-warning=DEP0123", program, ...args], "ipc");
}
