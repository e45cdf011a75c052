// A folder of this machine inside a node VM, by virtiofs.
import { spawn } from "node:child_process";
import { open } from "node:fs/promises";
import { join } from "node:path";
import { exists, systemClock } from "@pitwall/runtime";

/** Where Debian 12 has it, in qemu-system-common. */
const daemon = "/usr/lib/qemu/virtiofsd";
const limitMs = 10_000;

export interface Share {
  /** Of this machine. */
  readonly dir: string;
  /** In the node VM. */
  readonly at: string;
  /** Default false. */
  readonly readOnly?: boolean;
}

/** Starts the daemon that serves it once to QEMU, and ends with it. `socket` is a name in `cwd`. Nothing below /run can be shared. */
export async function serveShare(dir: string, cwd: string, socket: string): Promise<void> {
  if (!(await exists(daemon)))
    throw new Error(`${daemon} is missing: folders are shared with the virtiofsd of Debian 12's qemu-system-common`);
  const log = await open(join(cwd, `${socket}.log`), "a", 0o600);
  const line = [daemon, `--socket-path=${socket}`, "-o", `source=${dir}`, "-o", "cache=auto", "-o", "sandbox=chroot", "-o", "xattr"];
  // It locks each socket by a file in /run that is named after the socket's path and never removed: it gets a /run of its own. Who is not
  // root is root among its own, which is enough to serve what it may read.
  const apart = ["--mount", "--propagation", "private", ...(process.getuid?.() === 0 ? [] : ["--user", "--map-root-user"])];
  const script = 'mount -t tmpfs tmpfs /run && exec setpriv --pdeathsig KILL -- "$@"';
  const child = spawn("unshare", [...apart, "sh", "-c", script, "sh", ...line], { cwd, detached: true, stdio: ["ignore", log.fd, log.fd] });
  let end: string | undefined;
  child.once("exit", (code) => (end = `it ended with ${code}`)).once("error", (error) => (end = error.message));
  child.unref();
  await log.close();
  const deadline = systemClock.monotonicMs() + limitMs;
  while (!(await exists(join(cwd, socket)))) {
    if (end !== undefined || systemClock.monotonicMs() > deadline)
      throw new Error(`virtiofsd does not serve ${dir}: ${end ?? "it is silent"}`);
    await systemClock.sleep(10);
  }
}
