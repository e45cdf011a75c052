// The peer of powerunit: tini as PID 1 and dropbear as SSH server, from Debian's packages, on the same kernel. Its initramfs is its whole system: it mounts no
// disk, and loads only what the network needs.
import { spawn } from "node:child_process";
import { mkdir, readdir, readFile, realpath, stat, writeFile } from "node:fs/promises";
import { connect } from "node:net";
import { basename, dirname, join } from "node:path";
import { cpio } from "@pitwall/node/src/host/initramfs.ts";
import { kernelCommandLine, machineArguments, type HostMachine } from "@pitwall/node/src/qemu/arguments.ts";
import { command } from "@pitwall/quickstart";
import { freePort, systemClock } from "@pitwall/runtime";

export const peerCommands = { tini: "tini", dropbear: "dropbear-bin", dropbearkey: "dropbear-bin", busybox: "busybox-static" };

const programs = ["/usr/bin/tini", "/usr/sbin/dropbear"] as const;
const busybox = "/bin/busybox";
const networkModules = /-(virtio_ring|virtio|virtio_mmio|failover|net_failover|virtio_net)\.ko$/;
const memMib = 128;
const knockEveryMs = 10;
const bannerLimitMs = 60_000;
const lookEveryMs = 250;
const lookTries = 40;
const init = `#!${busybox} sh
${busybox} mount -t proc proc /proc
${busybox} mount -t devtmpfs dev /dev
for module in /lib/modules/*.ko; do ${busybox} insmod $module; done
${busybox} ip link set lo up
${busybox} ip addr add 10.0.2.15/24 dev eth0
${busybox} ip link set eth0 up
exec ${programs[0]} -- ${programs[1]} -F -s -r /etc/host_key
`;
/** Of all processes of the VM, by a user who has just logged in. */
const lookCommand = `${busybox} grep -HE "^(Name|PPid|RssAnon):" /proc/[0-9]*/status`;

export interface PeerOptions {
  readonly kernel: string;
  readonly modulesDir: string;
  readonly host: HostMachine;
  /** An empty folder of its own. */
  readonly dir: string;
}

export interface Peer {
  /** tini and dropbear alone, and with the libraries that they load. */
  readonly binaryBytes: number;
  readonly withLibrariesBytes: number;
  /** Boots it: until SSH says its first words, and what tini and the idle dropbear hold of anonymous memory. */
  boot(): Promise<{ readonly ms: number; readonly anonKib: number }>;
}

export async function openPeer({ kernel, modulesDir, host, dir }: PeerOptions): Promise<Peer> {
  await mkdir(dir, { recursive: true });
  const [hostKey, userKey] = [join(dir, "host_key"), join(dir, "user_key")];
  await command("dropbearkey", ["-t", "ed25519", "-f", hostKey]);
  await command("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-f", userKey]);
  const libraries = await librariesOf(programs);
  const initramfs = join(dir, "peer.cpio");
  await writeFile(initramfs, await archive(modulesDir, libraries, await readFile(hostKey), await readFile(`${userKey}.pub`)));
  const bytes = async (paths: readonly string[]): Promise<number> =>
    (await Promise.all(paths.map(async (path) => (await stat(path)).size))).reduce((sum, size) => sum + size, 0);
  const binaryBytes = await bytes(programs);
  return {
    binaryBytes,
    withLibrariesBytes: binaryBytes + (await bytes(libraries)),
    async boot() {
      const port = await freePort();
      const network = ["-netdev", `user,id=net,ipv6=off,hostfwd=tcp:127.0.0.1:${port}-:22`, "-device", "virtio-net-device,netdev=net"];
      const machine = [...machineArguments(host.acceleration), "-m", `${memMib}M`, "-smp", "1", ...network];
      const boot = ["-kernel", kernel, "-initrd", initramfs, "-append", kernelCommandLine(host)];
      const begun = performance.now();
      const child = spawn("qemu-system-x86_64", [...machine, ...boot], { stdio: "ignore" });
      const ended = new Promise<void>((resolve, reject) => child.once("exit", () => resolve()).once("error", reject));
      try {
        const endedEarly = ended.then((): never => {
          throw new Error("the peer's VM ended");
        });
        await Promise.race([banner(port), endedEarly]);
        const ms = performance.now() - begun;
        return { ms, anonKib: anonOf(await look(port, userKey)) };
      } finally {
        child.kill("SIGKILL");
        await ended;
      }
    },
  };
}

/** Real paths of the shared libraries, without the loader's own page of the kernel. */
async function librariesOf(paths: readonly string[]): Promise<string[]> {
  const listed = await Promise.all(paths.map((path) => command("ldd", [path])));
  return [...new Set(listed.flatMap((text) => [...text.matchAll(/(\/\S+) \(0x/g)].map(([, path]) => path!)))].toSorted(); // the group is in every match
}

async function archive(modulesDir: string, libraries: readonly string[], hostKey: Buffer, userKey: Buffer): Promise<Buffer> {
  const modules = (await readdir(modulesDir)).filter((name) => networkModules.test(name)).toSorted();
  const files: [path: string, mode: number, data: Uint8Array | string][] = [
    ["/init", 0o755, init],
    ["/etc/passwd", 0o644, "root:x:0:0:root:/root:/bin/sh\n"],
    ["/etc/shells", 0o644, "/bin/sh\n"],
    ["/etc/host_key", 0o600, hostKey],
    ["/root/.ssh/authorized_keys", 0o600, userKey],
    ...(await Promise.all(
      [busybox, ...programs, ...libraries].map(
        async (path) => [path, 0o755, await readFile(await realpath(path))] as [string, number, Buffer],
      ),
    )),
    ...(await Promise.all(
      modules.map(async (name) => [`/lib/modules/${name}`, 0o644, await readFile(join(modulesDir, name))] as [string, number, Buffer]),
    )),
  ];
  const folders = new Set(["/proc", "/dev", ...files.flatMap(([path]) => parents(path))]);
  return cpio([
    ...[...folders].toSorted().map((path) => ({ name: path.slice(1), mode: 0o040000 | (path.startsWith("/root") ? 0o700 : 0o755) })),
    ...files.map(([path, mode, data]) => ({ name: path.slice(1), mode: 0o100000 | mode, data: Buffer.from(data) })),
    { name: "bin/sh", mode: 0o120777, data: Buffer.from(basename(busybox)) },
  ]);
}

function parents(path: string): string[] {
  const parent = dirname(path);
  return parent === "/" ? [] : [...parents(parent), parent];
}

/**
 * Resolves when somebody there says "SSH-". QEMU accepts at once and asks the guest with growing patience, so a caller that waits for one
 * connection would measure that: each knock is a new one.
 */
async function banner(port: number): Promise<void> {
  const open = new AbortController();
  const signal = AbortSignal.any([open.signal, AbortSignal.timeout(bannerLimitMs)]);
  await new Promise<void>((resolve, reject) => {
    const knock = (): void => {
      const socket = connect({ port, host: "127.0.0.1", signal });
      socket.on("error", () => undefined).once("data", (data) => data.toString().startsWith("SSH-") && resolve());
    };
    const timer = setInterval(knock, knockEveryMs);
    signal.addEventListener(
      "abort",
      () => {
        clearInterval(timer);
        reject(new Error("the peer's SSH server did not answer"));
      },
      { once: true },
    );
    knock();
  }).finally(() => open.abort());
}

async function look(port: number, key: string): Promise<string> {
  const options = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR", "IdentitiesOnly=yes"];
  const flags = options.flatMap((option) => ["-o", option]);
  const args = [...flags, "-F", "none", "-i", key, "-p", String(port), "root@127.0.0.1", lookCommand];
  // It takes a few strangers at a time, and those that knocked before us are still on its list.
  for (let left = lookTries; ; left--) {
    try {
      return await command("ssh", args);
    } catch (error) {
      if (left === 0) throw error;
      await systemClock.sleep(lookEveryMs);
    }
  }
}

/** What tini and the dropbear that listens hold. */
function anonOf(lines: string): number {
  const processes = new Map<string, Map<string, string>>();
  for (const [, pid = "", name = "", value = ""] of lines.matchAll(/^\/proc\/(\d+)\/status:(\w+):\s+(\S+)/gm)) {
    processes.set(pid, (processes.get(pid) ?? new Map<string, string>()).set(name, value));
  }
  const idle = [...processes].filter(([pid, of]) => pid === "1" || (of.get("PPid") === "1" && of.get("Name") === "dropbear"));
  if (idle.length !== 2) throw new Error(`the peer's VM runs other processes than expected:\n${lines}`);
  return idle.reduce((sum, [, of]) => sum + Number(of.get("RssAnon")), 0);
}
