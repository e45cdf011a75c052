// guest: what powerunit costs a VM: the time until SSH listens beside a raw boot of the same kernel, its memory, its size; and tini + dropbear beside it.
import { execFile } from "node:child_process";
import { createHash, randomUUID } from "node:crypto";
import { mkdir, mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { openGuest, type Guest } from "@pitwall/node/src/guest/client.ts";
import { provideDisk } from "@pitwall/node/src/host/disk.ts";
import { openHostKey } from "@pitwall/node/src/host/host-key.ts";
import { buildBaseInitramfs, writeVmInitramfs } from "@pitwall/node/src/host/initramfs.ts";
import { wiring } from "@pitwall/node/src/qemu/arguments.ts";
import { openQemuDriver } from "@pitwall/node/src/qemu/driver.ts";
import { probeExitCode, probeInitramfs, probeQemu } from "@pitwall/node/src/qemu/probe.ts";
import { hostTscKhz } from "@pitwall/node/src/host/tsc.ts";
import { ExecStart, GuestState } from "@pitwall/proto/pitwall/v1/guest.ts";
import { installPackages, providePowerunit, provision } from "@pitwall/quickstart";
import { rawArguments, timed } from "./boot.ts";
import { openPeer, peerCommands } from "./tini-dropbear.ts";
import { median, percentile, round, type BenchOptions, type Metric } from "./measure.ts";

const run = promisify(execFile);
const mib = 2 ** 20;
const readyLimitMs = 60_000;
const goals = { added: 0.1, anonMib: 1, binaryMb: 4, growthMib: 0.25 } as const;

export async function guest({ quick, say }: BenchOptions): Promise<Readonly<Record<string, Metric>>> {
  const rounds = quick ? 3 : 10;
  await using parts = new AsyncDisposableStack();
  const dir = await mkdtemp(join(tmpdir(), "pitwall-bench-"));
  parts.defer(() => rm(dir, { recursive: true, force: true }));
  const alive = setInterval(() => undefined, 1_000); // VMMs do not keep the process that started them
  parts.defer(() => clearInterval(alive));
  const provisioned = await provision(say);
  const initramfs = await buildBaseInitramfs({ ...provisioned, cacheDir: dir, channel: wiring.channel.kind });
  const base = await emptyBase(dir);
  const rawInitramfs = join(dir, "raw.cpio");
  await writeFile(rawInitramfs, probeInitramfs());
  const driver = openQemuDriver({ kernel: provisioned.kernel, cacheDir: provisioned.cacheDir });
  const { acceleration } = await probeQemu(provisioned.kernel, provisioned.cacheDir);
  const host = { acceleration, tscKhz: await hostTscKhz() };
  await installPackages(peerCommands, say);
  const peer = await openPeer({ ...provisioned, host, dir: join(dir, "peer") });

  /** Milliseconds until powerunit says that SSH listens, and what `measure` says of it then. */
  const boot = async (name: string, measure: (link: Guest) => Promise<number> = anonKib): Promise<{ ms: number; anonKib: number }> => {
    const vmDir = join(dir, name);
    await mkdir(vmDir, { mode: 0o700 });
    const disk = join(vmDir, "disk.ext4");
    await provideDisk(disk, 64 * mib, dir, true);
    const hostKey = await openHostKey(join(vmDir, "host_key.pem"));
    const own = join(vmDir, "initramfs.cpio");
    const process = { argv: [], env: [], user: "", working_dir: "", stop_signal: "SIGTERM", restart: "never", volumes: [] } as const;
    const ssh = { host_key: hostKey.privatePem, authorized_keys: [] };
    await writeVmInitramfs(initramfs, { hostname: name, ssh, process, ...wiring }, own);
    const begun = performance.now();
    const spec = { vmId: randomUUID(), epoch: 1n, dir: vmDir, kernel: provisioned.kernel, initramfs: own, base, disk };
    const vmm = await driver.start({ ...spec, vcpus: 1, memBytes: 128 * mib, tap: undefined });
    try {
      await using link = await openGuest(vmm, AbortSignal.timeout(readyLimitMs));
      for await (const { state } of link.control.watchState({})) if (state === GuestState.GUEST_STATE_READY) break;
      const ms = performance.now() - begun;
      return { ms, anonKib: await measure(link) };
    } finally {
      await vmm.kill();
    }
  };
  const rawLine = rawArguments(provisioned.kernel, rawInitramfs, host.tscKhz);
  const raw = (): Promise<number | undefined> => timed("qemu-system-x86_64", rawLine, probeExitCode);

  await raw();
  await boot("warm-up");
  await peer.boot();
  const [raws, boots, added, anon]: [number[], number[], number[], number[]] = [[], [], [], []];
  const peers: { ms: number; anonKib: number }[] = [];
  for (let n = 0; n < rounds; n++) {
    const first = n % 2 === 0 ? await raw() : undefined;
    const ours = await boot(`boot-${n}`);
    const limit = first ?? (await raw());
    const other = await peer.boot();
    if (limit === undefined) continue;
    raws.push(limit);
    peers.push(other);
    boots.push(ours.ms);
    added.push((ours.ms - limit) / limit);
    anon.push(ours.anonKib / 1024);
    say(
      `${n + 1}/${rounds}: SSH listens after ${Math.round(ours.ms)} ms, raw boot ${Math.round(limit)} ms, PID 1 holds ${ours.anonKib} KiB; tini + dropbear: ${Math.round(other.ms)} ms, ${other.anonKib} KiB`,
    );
  }
  const execs = quick ? 300 : 10_000;
  const growthMib = round((await boot("execs", (link) => growthKib(link, execs, say))).anonKib / 1024);
  const [value, anonMib] = [round(median(added)), round(median(anon))];
  const binaryMb = round((await stat(provisioned.powerunit)).size / 1e6);
  const differing = await rebuilt(dir, provisioned.powerunit, say);
  return {
    ssh_listen_added: {
      value,
      p95: round(percentile(added, 0.95)),
      unit: "ratio",
      goal: goals.added,
      ok: value <= goals.added,
      n: added.length,
      raw: {
        ssh_listen_ms: round(median(boots)),
        raw_boot_ms: round(median(raws)),
        tini_dropbear_ms: round(median(peers.map(({ ms }) => ms))),
      },
    },
    anon_mb: {
      value: anonMib,
      unit: "MiB",
      goal: goals.anonMib,
      ok: anonMib <= goals.anonMib,
      n: anon.length,
      raw: { tini_dropbear_mib: round(median(peers.map((one) => one.anonKib)) / 1024) },
    },
    binary_mb: {
      value: binaryMb,
      unit: "MB",
      goal: goals.binaryMb,
      ok: binaryMb <= goals.binaryMb,
      n: 1,
      raw: {
        powerunit_ssh_mb: round((await stat(`${provisioned.powerunit}-ssh`)).size / 1e6),
        tini_dropbear_mb: round(peer.binaryBytes / 1e6),
        tini_dropbear_libraries_mb: round(peer.withLibrariesBytes / 1e6),
      },
    },
    exec_growth_mb: { value: growthMib, unit: "MiB", goal: goals.growthMib, ok: growthMib <= goals.growthMib, n: execs },
    rebuilt_differs: { value: differing, unit: "binaries", goal: 0, ok: differing === 0, n: 2 },
  };
}

async function anonKib({ guest: api }: Guest): Promise<number> {
  let status = "";
  for await (const { data } of api.readFile({ path: "/proc/1/status", offsetBytes: 0n, limitBytes: 0n }))
    status += Buffer.from(data).toString();
  return Number(/^RssAnon:\s+(\d+) kB$/m.exec(status)?.[1] ?? Number.NaN);
}

/** How much more PID 1 holds after so many exec sessions than after the first hundred. */
async function growthKib(link: Guest, count: number, say: (text: string) => void): Promise<number> {
  const many = async (sessions: number): Promise<void> => {
    for (let n = 0; n < sessions; n++) {
      // The only program in an empty image is powerunit, which ends at once with 2 when it is not PID 1.
      let code: number | undefined;
      for await (const { message } of link.guest.exec(started())) if (message?.$case === "exit") code = message.value.code;
      if (code !== 2) throw new Error(`an exec session ended with ${code ?? "nothing"}`);
    }
  };
  await many(100);
  const before = await anonKib(link);
  say(`${count} exec sessions`);
  await Promise.all(Array.from({ length: 4 }, () => many(count / 4)));
  return (await anonKib(link)) - before;
}

async function* started(): AsyncGenerator<{ message: { $case: "start"; value: ExecStart } }> {
  yield { message: { $case: "start", value: ExecStart.fromPartial({ argv: ["/proc/self/exe"] }) } };
}

/** An image with nothing in it. */
async function emptyBase(dir: string): Promise<string> {
  const base = join(dir, "base.sqfs");
  await mkdir(join(dir, "image"));
  await run("tar", ["-C", join(dir, "image"), "-cf", join(dir, "image.tar"), "."]);
  await run("sh", ["-c", 'tar2sqfs --quiet --force "$1" < "$2"', "sh", base, join(dir, "image.tar")]);
  return base;
}

/** How many of the two binaries are not what a second compilation makes. */
async function rebuilt(dir: string, first: string, say: (text: string) => void): Promise<number> {
  const second = await providePowerunit(join(dir, "again"), say);
  const digest = async (path: string): Promise<string> =>
    createHash("sha256")
      .update(await readFile(path))
      .digest("hex");
  const differs = await Promise.all(["", "-ssh"].map(async (suffix) => (await digest(first + suffix)) !== (await digest(second + suffix))));
  return differs.filter(Boolean).length;
}
