// An earlier release of this system, taken from the repository's own history and made to run beside this one.
import { execFile } from "node:child_process";
import { mkdir, readdir, readFile, readlink, symlink } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { messageChain } from "@pitwall/runtime";
import { z } from "zod";

const root = join(import.meta.dirname, "..", "..", "..", "..");
const run = promisify(execFile);
/** All of a release, uncompressed. */
const maxArchiveBytes = 256 * 2 ** 20;
const workspaces = /^(services|libs|gen)\//;

const lockFile = z.object({
  packages: z.record(
    z.string(),
    z.object({ version: z.string().optional(), dependencies: z.record(z.string(), z.string()).optional(), link: z.boolean().optional() }),
  ),
});

export interface EarlierRelease {
  /** Its repository, with packages. */
  readonly root: string;
  /** Its steps of the schema. */
  readonly steps: readonly string[];
}

/**
 * What was there before the step of the schema that is in this file, in the empty folder `dir`. A text says why it cannot be had: the
 * history is not here, or it needs other packages than are installed.
 */
export async function openEarlierRelease(dir: string, firstStepOfLater: string): Promise<EarlierRelease | string> {
  const migrations = "services/controller/src/store/migrations";
  const added = ["log", "-1", "--diff-filter=A", "--format=%H %P", "--", `${migrations}/${firstStepOfLater}`];
  const found = await git(added).catch((error: unknown) => `no history: ${messageChain(error)}`);
  const [, before] = /^[0-9a-f]+ ([0-9a-f]+)/.exec(found) ?? [];
  if (before === undefined) return `the history does not say what came before ${firstStepOfLater}${found === "" ? "" : ` (${found})`}`;
  const archive = join(dir, "release.tar");
  await git(["archive", "--output", archive, before]);
  await run("tar", ["xf", archive, "-C", dir]);
  const differing = await differences(dir);
  if (differing.length > 0) return `it needs other packages than are installed: ${differing.join(", ")}`;
  await linkPackages(dir);
  const steps = (await readdir(join(dir, migrations))).filter((name) => /^\d/.test(name));
  return { root: dir, steps };
}

async function git(args: readonly string[]): Promise<string> {
  const { stdout } = await run("git", ["-C", root, ...args], { maxBuffer: maxArchiveBytes });
  return stdout.trim();
}

/** Packages that its services name, and that are of another major version here, or not here. */
async function differences(dir: string): Promise<string[]> {
  const read = async (of: string): Promise<z.output<typeof lockFile>["packages"]> =>
    lockFile.parse(JSON.parse(await readFile(join(of, "package-lock.json"), "utf8"))).packages;
  const [theirs, ours] = [await read(dir), await read(root)];
  const named = Object.entries(theirs).flatMap(([path, { dependencies = {} }]) => (workspaces.test(path) ? Object.keys(dependencies) : []));
  const major = (version = "none"): string => version.replace(/\..*/, "");
  return [...new Set(named)].flatMap((name) => {
    const at = `node_modules/${name}`;
    const [their, our] = [theirs[at], ours[at]];
    return their?.link === true || major(their?.version) === major(our?.version) ? [] : [`${name} ${their?.version} for ${our?.version}`];
  });
}

/** The packages that are installed; those of the repository itself are its own. */
async function linkPackages(dir: string): Promise<void> {
  const [installed, own] = [join(root, "node_modules"), join(dir, "node_modules")];
  await mkdir(join(own, "@pitwall"), { recursive: true });
  for (const name of await readdir(installed)) if (name !== "@pitwall") await symlink(join(installed, name), join(own, name));
  for (const name of await readdir(join(installed, "@pitwall")))
    await symlink(await readlink(join(installed, "@pitwall", name)), join(own, "@pitwall", name));
}
