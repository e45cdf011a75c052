// The two programs that the operator installs: which they are, and the node's own copy of the one that runs in jails.
import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { lstat, mkdir, readFile, realpath } from "node:fs/promises";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { copyFileAtomic, exists, PitwallError } from "@pitwall/runtime";
import { programName } from "./jail.ts";

const run = promisify(execFile);

/** Releases that the contract suite has been run with; each has an API of its own. */
export const supportedReleases: readonly string[] = ["1.17"];

const writable = 0o022;

export interface Programs {
  /** Always called {@link programName}: jails are named after it, also after an update. */
  readonly firecracker: string;
  readonly jailer: string;
  /** As both say. */
  readonly version: string;
}

export interface InstalledPrograms {
  readonly firecracker: string;
  readonly jailer: string;
}

/** `dir` is where the copy is kept. Throws `unsupported` when a program is missing, of another release, or could be changed by others. */
export async function openPrograms(installed: InstalledPrograms, dir: string): Promise<Programs> {
  const [firecracker, jailer] = await Promise.all([trusted(installed.firecracker), trusted(installed.jailer)]);
  const [version, its] = await Promise.all([versionOf(firecracker), versionOf(jailer)]);
  if (version !== its) {
    throw unusable(`Firecracker is ${version} and its jailer ${its}: install both from one release`);
  }
  checkRelease(version);
  return { firecracker: await copyOf(firecracker, dir), jailer, version };
}

/** Throws `unsupported` unless it is one of {@link supportedReleases}. */
export function checkRelease(version: string): void {
  if (supportedReleases.some((release) => version === release || version.startsWith(`${release}.`))) return;
  throw unusable(`Firecracker ${version} is not supported: install ${supportedReleases.join(" or ")}`);
}

/** Of `Firecracker v1.17.0-dev` and `Jailer v1.17.0-dev`. */
export function parseVersion(text: string): string | undefined {
  return /^(?:Firecracker|Jailer) v(\d+\.\d+\.\d+\S*)/m.exec(text)?.[1];
}

function unusable(message: string, cause?: unknown): PitwallError {
  return new PitwallError("unsupported", message, { reason: "VMM_UNUSABLE", cause });
}

/** The file itself, root's alone: it is run as root, and decides what a VMM may. */
async function trusted(path: string): Promise<string> {
  const real = await realpath(path).catch((cause: unknown) => {
    throw unusable(
      `${path} cannot be found: install Firecracker and name its programs in PITWALL_FIRECRACKER_BIN and PITWALL_JAILER_BIN`,
      cause,
    );
  });
  const found = await lstat(real);
  if (!found.isFile() || found.uid !== 0 || (found.mode & writable) !== 0) throw unusable(`${real} can be changed by others than root`);
  return real;
}

async function versionOf(path: string): Promise<string> {
  const { stdout } = await run(path, ["--version"]).catch((cause: unknown) => {
    throw unusable(`${path} cannot be run`, cause);
  });
  const version = parseVersion(stdout);
  if (version === undefined) throw unusable(`${path} does not say its version`);
  return version;
}

/** A VM's jail has a copy of this copy: what is installed may be replaced at any time. */
async function copyOf(path: string, dir: string): Promise<string> {
  const digest = createHash("sha256")
    .update(await readFile(path))
    .digest("hex");
  const copy = join(dir, digest.slice(0, 16), programName);
  if (await exists(copy)) return copy;
  await mkdir(dirname(copy), { recursive: true, mode: 0o700 });
  await copyFileAtomic(path, copy);
  return copy;
}
