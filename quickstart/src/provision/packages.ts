// Commands that Pitwall needs from the system, and the Debian packages that bring them.
import { access, constants } from "node:fs/promises";
import { delimiter, join } from "node:path";
import { withProgress, type Say } from "../progress.ts";
import { command } from "./command.ts";

/** What a node and its quick start need. */
export const runtimeCommands: Readonly<Record<string, string>> = {
  "qemu-system-x86_64": "qemu-system-x86",
  tar2sqfs: "squashfs-tools-ng",
  mke2fs: "e2fsprogs",
  lz4: "lz4",
  mmdebstrap: "mmdebstrap",
  ssh: "openssh-client",
  "ssh-keygen": "openssh-client",
  setpriv: "util-linux",
  "dpkg-deb": "dpkg",
};

/** What the tests need besides. */
export const testCommands: Readonly<Record<string, string>> = {
  umoci: "umoci",
  runc: "runc",
  busybox: "busybox-static",
  "musl-gcc": "musl-tools",
  gcc: "gcc",
  skopeo: "skopeo",
  "docker-registry": "docker-registry",
  scp: "openssh-client",
  openssl: "openssl",
  getfattr: "attr",
  chromium: "chromium",
  ps: "procps",
  ip: "iproute2",
  iptables: "iptables",
  nft: "nftables",
  unshare: "util-linux",
  perl: "perl",
  faketime: "faketime",
  rsync: "rsync",
  git: "git",
  curl: "curl",
  strace: "strace",
  ansible: "ansible-core",
  "ssh-audit": "ssh-audit",
};

/** Those that are not on PATH (or in the places where Debian keeps what administrators run). */
export async function missingPackages(needed: Readonly<Record<string, string>>, path = process.env["PATH"] ?? ""): Promise<string[]> {
  const folders = path.split(delimiter);
  const missing = await Promise.all(
    Object.entries(needed).map(async ([name, packageName]) => ((await isThere(name, folders)) ? [] : [packageName])),
  );
  return [...new Set(missing.flat())].toSorted();
}

async function isThere(name: string, folders: readonly string[]): Promise<boolean> {
  const found = await Promise.all(
    folders.map((folder) =>
      access(join(folder, name), constants.X_OK).then(
        () => true,
        () => false,
      ),
    ),
  );
  return found.includes(true);
}

/** Installs what is missing, with apt. Throws one sentence that says what to run where it may not. */
export async function installPackages(needed: Readonly<Record<string, string>>, say: Say): Promise<void> {
  const missing = await missingPackages(needed);
  if (missing.length === 0) return;
  const line = `apt-get install --no-install-recommends ${missing.join(" ")}`;
  if (process.env["PITWALL_NO_INSTALL"] === "1" || !(await mayInstall()))
    throw new Error(`these packages are missing: run \`${isRoot() ? "" : "sudo "}${line}\``);
  if ((await missingPackages({ "apt-get": "apt" })).length > 0)
    throw new Error(`these Debian packages, or what your system calls them, are missing: ${missing.join(", ")}`);
  await withProgress(say, `installing Debian packages: ${missing.join(", ")}`, async () => {
    await apt(["update"]);
    await apt(["install", "--yes", "--no-install-recommends", ...missing]);
  });
  const still = await missingPackages(needed);
  if (still.length > 0) throw new Error(`apt installed ${still.join(", ")}, and yet their commands are not on PATH`);
}

const isRoot = (): boolean => process.getuid?.() === 0;

/** Root may, and so may who has sudo without a password: a question in the middle of all this would be missed. */
async function mayInstall(): Promise<boolean> {
  if (isRoot()) return true;
  return command("sudo", ["-n", "true"]).then(
    () => true,
    () => false,
  );
}

/** apt-get without questions; waits while another one runs. Downloads need no rights, all else does. */
export async function apt(args: readonly string[], cwd?: string): Promise<string> {
  const line = ["apt-get", "-qq", "-o", "DPkg::Lock::Timeout=300", "-o", "Acquire::Retries=3", ...args];
  const [name = "", ...rest] = isRoot() || args[0] === "download" ? line : ["sudo", "-n", "DEBIAN_FRONTEND=noninteractive", ...line];
  return command(name, rest, { env: { DEBIAN_FRONTEND: "noninteractive" }, ...(cwd !== undefined && { cwd }) });
}
