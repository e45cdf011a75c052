// The initramfs: powerunit and kernel modules once per version, then one VM's configuration appended as a second archive.
import { createHash } from "node:crypto";
import { appendFile, chmod, copyFile, mkdir, readdir, readFile, rm } from "node:fs/promises";
import { basename, join } from "node:path";
import { exists, PitwallError, writeFileAtomic } from "@pitwall/runtime";

/** What powerunit reads as /pitwall/config.json; docs/architecture.md, "Initramfs". */
export interface GuestConfig {
  readonly hostname: string;
  readonly network: {
    readonly interface: string;
    /** With the length of its network, as `address6` has. */
    readonly address: string;
    readonly gateway: string;
    readonly dns: readonly string[];
    readonly address6?: string;
    readonly gateway6?: string;
    /** Default: what the device says. */
    readonly mtu?: number;
  };
  readonly ssh: {
    readonly host_key: string;
    readonly authorized_keys: readonly string[];
    readonly user_ca?: readonly string[];
    /** What a certificate of those must name. */
    readonly principal?: string;
  };
  readonly process: {
    readonly argv: readonly string[];
    readonly env: readonly string[];
    readonly user: string;
    readonly working_dir: string;
    readonly stop_signal: string;
    /** Folders that powerunit makes where the image lacks them. */
    readonly volumes: readonly string[];
    readonly restart: "never" | "on-failure" | "always";
    readonly healthcheck?: GuestHealthcheck;
  };
  /** Default false. The volumes stay writable. */
  readonly read_only_root?: boolean;
  readonly channel: GuestChannel;
  /** How the disks are told apart; default by serial. A VMM that cannot give a serial has one read-only disk, the base. */
  readonly disks?: "serial" | "mode";
}

/** The device that leads to the node: a port of it has a name or a number. */
export type GuestChannel = { readonly kind: "virtio-serial"; readonly name: string } | { readonly kind: "vsock"; readonly port: number };

/** The image's health check with its defaults filled in. */
export interface GuestHealthcheck {
  readonly test: readonly string[];
  readonly interval_ms: number;
  readonly timeout_ms: number;
  readonly start_period_ms: number;
  readonly start_interval_ms: number;
  readonly retries: number;
}

interface Entry {
  readonly name: string;
  /** File type and permissions, stat(2). */
  readonly mode: number;
  readonly data?: Uint8Array;
}

const directory = 0o040000;
const file = 0o100000;

/** A cpio archive in the kernel's "newc" format (Documentation/driver-api/early-userspace/buffer-format.rst). */
export function cpio(entries: readonly Entry[]): Buffer {
  const parts: Buffer[] = [];
  const pad = (length: number): Buffer => Buffer.alloc((4 - (length % 4)) % 4);
  for (const [index, { name, mode, data = new Uint8Array() }] of [...entries, { name: "TRAILER!!!", mode: 0 }].entries()) {
    const fields = [index + 1, mode, 0, 0, 1, 0, data.length, 0, 0, 0, 0, name.length + 1, 0];
    const header = Buffer.from(`070701${fields.map((n) => n.toString(16).padStart(8, "0")).join("")}${name}\0`);
    parts.push(header, pad(header.length), Buffer.from(data), pad(data.length));
  }
  return Buffer.concat(parts);
}

/**
 * Makes the part that all VMs share and returns its path in `cacheDir`. Beside `powerunit` its SSH server is expected, `powerunit-ssh`. The name is the digest of what is in it, so a new
 * powerunit or kernel makes a new file. `modulesDir` holds `NN-name.ko`, loaded in the order of their names, and in the folder `vsock` those
 * that only a guest with that channel is to load.
 */
export async function buildBaseInitramfs(options: {
  powerunit: string;
  modulesDir: string;
  cacheDir: string;
  channel: GuestChannel["kind"];
}): Promise<string> {
  const [init, ssh] = await Promise.all(
    [options.powerunit, `${options.powerunit}-ssh`].map((path) =>
      readFile(path).catch((cause: unknown) => {
        const message = "powerunit cannot be read: build guest/powerunit and guest/powerunit/ssh, and name the first in PITWALL_POWERUNIT";
        throw new PitwallError("unsupported", message, { cause });
      }),
    ),
  );
  if (!init || !ssh) throw new PitwallError("internal", "two files were read");
  const modules = await readModules(options.modulesDir);
  if (options.channel === "vsock") modules.push(...(await readModules(join(options.modulesDir, "vsock"))));
  const hash = createHash("sha256").update(init).update(ssh);
  for (const { name, data } of modules) hash.update(name).update(data);
  const path = join(options.cacheDir, `initramfs-${hash.digest("hex").slice(0, 16)}.cpio`);
  if (await exists(path)) return path;
  await mkdir(options.cacheDir, { recursive: true });
  const entries: Entry[] = [
    { name: "init", mode: file | 0o755, data: init },
    { name: "powerunit-ssh", mode: file | 0o755, data: ssh },
    { name: "lib", mode: directory | 0o755 },
    { name: "lib/modules", mode: directory | 0o755 },
    ...modules.map(({ name, data }) => ({ name: `lib/modules/${name}`, mode: file | 0o644, data })),
    { name: "pitwall", mode: directory | 0o700 },
  ];
  await writeFileAtomic(path, cpio(entries), 0o644);
  return path;
}

async function readModules(dir: string): Promise<{ name: string; data: Buffer }[]> {
  const found = await readdir(dir).catch((cause: unknown) => {
    throw new PitwallError(
      "unsupported",
      `the guest's kernel modules cannot be read: name a folder in PITWALL_MODULES_DIR that has ${basename(dir)}`,
      { cause },
    );
  });
  const names = found.filter((name) => name.endsWith(".ko")).toSorted();
  return Promise.all(names.map(async (name) => ({ name, data: withoutSignature(await readFile(join(dir, name))) })));
}

/** Writes the initramfs of one VM, 0600 because it holds the host key and the environment. */
export async function writeVmInitramfs(base: string, config: GuestConfig, path: string): Promise<void> {
  await copyFile(base, path);
  await chmod(path, 0o600);
  await appendFile(path, cpio([{ name: "pitwall/config.json", mode: file | 0o600, data: Buffer.from(JSON.stringify(config)) }]));
}

/** Once the VM has read it. */
export async function removeVmInitramfs(path: string): Promise<void> {
  await rm(path, { force: true });
}

const signatureMagic = Buffer.from("~Module signature appended~\n");

/**
 * A module without its appended signature (kernel/module_signature.c): checking SHA-256 and RSA for each costs the guest more than
 * loading it, and an initramfs that the host has made proves nothing by it.
 */
function withoutSignature(module: Buffer): Buffer {
  const trailer = module.length - signatureMagic.length;
  if (trailer < 12 || !module.subarray(trailer).equals(signatureMagic)) return module;
  const signatureBytes = module.readUInt32BE(trailer - 4);
  const end = trailer - 12 - signatureBytes;
  return end > 0 ? module.subarray(0, end) : module;
}
