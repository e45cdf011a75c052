// `npm start -- --doctor`: what is there, what is missing, and whether what was made still is what it was.
import { access, constants, readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { cacheDir } from "./provision/cache.ts";
import { command } from "./provision/command.ts";
import { missingPackages, runtimeCommands } from "./provision/packages.ts";
import { damagedFiles, sha256 } from "./provision/sums.ts";

interface Finding {
  readonly what: string;
  readonly ok: boolean;
  readonly detail: string;
}

/** Prints the findings; false when something is missing or damaged. */
export async function doctor(print: (text: string) => void): Promise<boolean> {
  const dir = cacheDir();
  const findings = [node(), await packages(), await kvm(), await kernel(dir), await starter(dir), await powerunit(dir), await bases(dir)];
  print(`cache    ${dir}`);
  for (const { what, ok, detail } of findings) print(`${ok ? "ok     " : "MISSING"}  ${what}: ${detail}`);
  return findings.every(({ ok }) => ok);
}

/** The lock file pins it by checksum, and npm verified that. */
function node(): Finding {
  return { what: "Node", ok: Number(process.versions.node.split(".")[0]) >= 24, detail: `${process.version} at ${process.execPath}` };
}

async function packages(): Promise<Finding> {
  const missing = await missingPackages(runtimeCommands);
  const qemu = (await command("qemu-system-x86_64", ["--version"]).catch(() => "")).split("\n")[0] ?? "";
  return {
    what: "Debian packages",
    ok: missing.length === 0,
    detail: missing.length === 0 ? qemu : `${missing.join(", ")}; \`npm start\` installs them`,
  };
}

async function kvm(): Promise<Finding> {
  const usable = await access("/dev/kvm", constants.R_OK | constants.W_OK).then(
    () => true,
    () => false,
  );
  return {
    what: "KVM",
    ok: true,
    detail: usable ? "/dev/kvm opens; a probe boot decides" : "absent: VMs run by software emulation, which is slower",
  };
}

async function kernel(dir: string): Promise<Finding> {
  const version = await readFile(join(dir, "kernel", "version"), "utf8").catch(() => undefined);
  const modules = await readdir(join(dir, "kernel", "modules")).catch(() => []);
  if (version === undefined) return { what: "guest kernel", ok: false, detail: "not downloaded yet; `npm start` does it" };
  const damaged = await damagedFiles(join(dir, "kernel"));
  if (damaged === undefined || damaged.length > 0) {
    return {
      what: "guest kernel",
      ok: false,
      detail: `${damaged?.join(", ") ?? "its checksums"} damaged or missing: remove ${join(dir, "kernel")}`,
    };
  }
  return { what: "guest kernel", ok: true, detail: `${version}, ${modules.length} modules, checksums verify` };
}

async function powerunit(dir: string): Promise<Finding> {
  const built = await readdir(join(dir, "powerunit")).catch(() => []);
  return { what: "powerunit", ok: built.length > 0, detail: built.length > 0 ? `built (${built.join(", ")})` : "not compiled yet" };
}

/** Every blob of the starter image has the digest that is its name. */
async function starter(dir: string): Promise<Finding> {
  const layout = (await readdir(dir).catch(() => [])).find((name) => /^starter-\d+$/.test(name));
  if (layout === undefined) return { what: "starter image", ok: false, detail: "not made yet" };
  const blobs = join(dir, layout, "blobs", "sha256");
  const names = await readdir(blobs);
  for (const name of names) {
    if ((await sha256(join(blobs, name))) !== name)
      return { what: "starter image", ok: false, detail: `blob ${name} is damaged: remove ${join(dir, layout)}` };
  }
  return { what: "starter image", ok: true, detail: `${names.length} blobs verify` };
}

/** Made from images on demand; none is fine. */
async function bases(dir: string): Promise<Finding> {
  const found = (await readdir(join(dir, "images", "bases")).catch(() => [])).filter((name) => name.endsWith(".sqfs"));
  return { what: "converted images", ok: true, detail: `${found.length}` };
}
