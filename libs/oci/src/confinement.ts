// Where images are converted: what reads what strangers wrote has nothing that it could take or damage.
//
// A confined process sees /usr as its root, in which nothing is writable to it, and no other process, network, capability or mount. As root's
// it is a user that owns nothing else. It writes to the one file that it was given open. That takes no mounts, so it starts in milliseconds.
import { spawn } from "node:child_process";
import { getuid } from "node:process";
import { PitwallError } from "@pitwall/runtime";

/** Of no account: systemd's list of numbers leaves it unused, and containers that map 65,536 numbers have it. */
const strangerId = 65_533;

/** A way to run a program that gets its output file as descriptor 3. */
export interface Confinement {
  /**
   * `sealed`: in namespaces of its own, without a network, as no user. `unmapped`: the same as the agent's user, without its rights.
   * `stranger`: only as another user. `none`: as the agent.
   */
  readonly kind: "sealed" | "unmapped" | "stranger" | "none";
  /** The user that the output file must belong to, when it is not the agent's. */
  readonly owner: number | undefined;
  /** What the program calls its output. */
  readonly output: string;
  /** The command line for a program and its arguments; the first word is the program. */
  readonly prefix: readonly string[];
}

/** Runs programs as they are. */
const unconfined: Confinement = { kind: "none", owner: undefined, output: "/proc/self/fd/3", prefix: [] };

const apart = ["unshare", "--mount", "--net", "--pid", "--ipc", "--uts", "--fork", "--kill-child"];
// Of the new root, `share` is the one folder that is always there and never needed.
const rooted = ["--root=/usr", "--mount-proc=/share", "--"];
const powerless = ["--bounding-set=-all", "--inh-caps=-all", "--no-new-privs", "--pdeathsig=KILL"];
const asStranger = [`--reuid=${strangerId}`, `--regid=${strangerId}`, "--clear-groups"];
/** The agent's environment may hold secrets. */
const forgetful = (env: string, path: string): readonly string[] => ["--", env, "-i", `PATH=${path}`];
// In the new root the agent's PATH need not lead anywhere.
const rootedSetpriv = "/bin/setpriv";
const rootedForgetful = forgetful("/bin/env", "/local/bin:/bin");

const forRoot: readonly Confinement[] = [
  {
    kind: "sealed",
    owner: strangerId,
    output: "/share/self/fd/3",
    prefix: [...apart, ...rooted, rootedSetpriv, ...powerless, ...asStranger, ...rootedForgetful],
  },
  {
    kind: "stranger",
    owner: strangerId,
    output: "/proc/self/fd/3",
    prefix: ["setpriv", ...powerless, ...asStranger, ...forgetful("env", "/usr/local/bin:/usr/bin:/bin")],
  },
];
const forUsers: readonly Confinement[] = [
  {
    kind: "unmapped",
    owner: undefined,
    output: "/share/self/fd/3",
    prefix: [...apart, "--user", "--map-root-user", ...rooted, rootedSetpriv, ...powerless, ...rootedForgetful],
  },
];

/** The strictest confinement that this host lets tar2sqfs start in. Throws `unsupported` when there is no tar2sqfs. */
export async function openConfinement(): Promise<Confinement> {
  for (const confinement of [...(getuid?.() === 0 ? forRoot : forUsers), unconfined]) {
    if (await starts([...confinement.prefix, "tar2sqfs", "--version"])) return confinement;
  }
  throw packerMissing();
}

/** The refusal without tar2sqfs. */
export function packerMissing(cause?: unknown): PitwallError {
  return new PitwallError("unsupported", "tar2sqfs is missing: install the Debian package squashfs-tools-ng", { cause });
}

async function starts([program = "", ...args]: readonly string[]): Promise<boolean> {
  const child = spawn(program, args, { stdio: "ignore" });
  return new Promise((resolve) => {
    child.once("error", () => resolve(false));
    child.once("close", (code) => resolve(code === 0));
  });
}
