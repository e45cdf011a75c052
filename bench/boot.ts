// boot: gRPC Create → `ssh VM true`, against the raw QEMU boot of the same kernel: to an init that does nothing but end the machine.
import { spawn } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { probeExitCode, probeInitramfs } from "@pitwall/node/src/qemu/probe.ts";
import { hostTscKhz } from "@pitwall/node/src/host/tsc.ts";
import { openSshAccess, provision, startStack, starterImage } from "@pitwall/quickstart";
import { median, percentile, round, type BenchOptions, type Metric } from "./measure.ts";

const hangMs = 60_000;
const goal = 1.6;

/** The least that QEMU and this kernel can do: no ACPI, no console, no disk, no network. */
export function rawArguments(kernel: string, initramfs: string, tscKhz: number): string[] {
  const parameters = `reboot=t panic=-1 quiet tsc_early_khz=${tscKhz} mitigations=off random.trust_cpu=on 8250.nr_uarts=0`;
  return [
    ...[
      "-M",
      "microvm,acpi=off",
      "-accel",
      "tcg",
      "-cpu",
      "max",
      "-m",
      "128",
      "-nodefaults",
      "-no-user-config",
      "-nographic",
      "-no-reboot",
    ],
    ...["-kernel", kernel, "-initrd", initramfs, "-append", parameters, "-device", "isa-debug-exit,iobase=0xf4,iosize=4"],
  ];
}

/** Milliseconds until the program has ended with `code`; undefined when it did not within the limit. */
export async function timed(program: string, args: readonly string[], code: number): Promise<number | undefined> {
  const begun = performance.now();
  const child = spawn(program, args, { stdio: "ignore" });
  const timer = setTimeout(() => child.kill("SIGKILL"), hangMs);
  const ended = await new Promise<number | null>((resolve, reject) => child.once("exit", resolve).once("error", reject));
  clearTimeout(timer);
  return ended === code ? performance.now() - begun : undefined;
}

export async function boot({ quick, say }: BenchOptions): Promise<Readonly<Record<string, Metric>>> {
  const pairs = quick ? 3 : 12;
  const boots = quick ? 3 : 50;
  await using parts = new AsyncDisposableStack();
  const stateDir = await mkdtemp(join(tmpdir(), "pitwall-bench-"));
  parts.defer(() => rm(stateDir, { recursive: true, force: true }));
  const provisioned = await provision(say);
  const layout = await starterImage(provisioned.cacheDir, say, new AbortController().signal);
  const initramfs = join(stateDir, "raw.cpio");
  await writeFile(initramfs, probeInitramfs());
  const stack = parts.use(
    await startStack({ stateDir, provisioned, imageRoots: [provisioned.cacheDir], insecureRegistries: [], say, ports: "any" }),
  );
  const client = stack.client();
  const ssh = await openSshAccess(stack);
  await client.addSshKey(ssh.publicKey);

  const rawLine = rawArguments(provisioned.kernel, initramfs, await hostTscKhz());
  const raw = (): Promise<number | undefined> => timed("qemu-system-x86_64", rawLine, probeExitCode);
  const ours = async (name: string): Promise<number | undefined> => {
    const begun = performance.now();
    await client.vms.create({ name, spec: { image: `oci:${layout}:latest` } });
    // The gateway holds the connection until the VM is up.
    const [program = "ssh", ...args] = ssh.commandFor(name);
    const reached = await timed(program, [...args, "true"], 0);
    const took = performance.now() - begun;
    await client.vms.waitUntilGone(await client.vms.delete(name));
    return reached === undefined ? undefined : took;
  };

  await raw();
  await ours("warm-up"); // converts the image
  const [raws, creates, ratios]: [number[], number[], number[]] = [[], [], []];
  let hangs = 0;
  for (let at = 0; at < boots; at++) {
    const isPair = at < pairs;
    const first = isPair && at % 2 === 0 ? await raw() : undefined;
    const took = await ours(`boot-${at}`);
    const limit = isPair && at % 2 === 1 ? await raw() : first;
    if (took === undefined) hangs++;
    if (took !== undefined && limit !== undefined) {
      raws.push(limit);
      creates.push(took);
      ratios.push(took / limit);
    }
    say(
      `${at + 1}/${boots}: create to ssh ${took === undefined ? "hung" : Math.round(took)} ms${limit === undefined ? "" : `, raw boot ${Math.round(limit)} ms`}`,
    );
  }
  const value = round(median(ratios));
  return {
    create_to_ssh: {
      value,
      p95: round(percentile(ratios, 0.95)),
      unit: "ratio",
      goal,
      ok: value <= goal,
      n: ratios.length,
      raw: { create_to_ssh_ms: round(median(creates)), raw_boot_ms: round(median(raws)) },
    },
    hangs: { value: hangs, unit: "boots", goal: 0, ok: hangs === 0, n: boots },
  };
}
