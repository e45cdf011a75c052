// Whether a VMM is confined as it was asked for: looked up in /proc for each of its threads, never believed (proc(5)).
import { readdir, readFile, readlink, stat } from "node:fs/promises";
import { PitwallError, systemClock } from "@pitwall/runtime";

const capabilitySets = ["CapInh", "CapPrm", "CapEff", "CapAmb"] as const;
/** Of its own each. User ids are the host's: a VMM is somebody in particular there. */
const namespaces = ["mnt", "pid", "net", "ipc", "uts"] as const;
const filtered = "2"; // SECCOMP_MODE_FILTER
/** Firecracker says that the VM runs a little before its first thread has its filter. */
const filterLimitMs = 2_000;
const pollMs = 5;

export interface Confinement {
  readonly uid: number;
  /** As /proc/PID/cgroup ends. */
  readonly cgroup: string;
  /** The jail's folder, as the agent sees it. */
  readonly root: string;
  /** Soft and hard, in the words of /proc/PID/limits. */
  readonly limits: Readonly<Record<string, string>>;
}

/** What /proc says of one thread. */
export interface ThreadFacts {
  readonly name: string;
  /** Of /proc/PID/task/TID/status, by name. */
  readonly status: ReadonlyMap<string, string>;
  readonly cgroup: string;
  /** Those that are the agent's too. */
  readonly sharedNamespaces: readonly string[];
}

/** `api`: before the VM is started, when only the thread that serves the API has its filter. `all`: once it runs. */
export type FilterStage = "api" | "all";

/** What is wrong with a thread; empty: nothing. */
export function faultsOf(facts: ThreadFacts, { uid, cgroup }: Pick<Confinement, "uid" | "cgroup">, stage: FilterStage): string[] {
  const { name, status, sharedNamespaces } = facts;
  const faults: string[] = [];
  const expectOf = (key: string, wanted: string): void => {
    const found = status.get(key) ?? "nothing";
    if (found !== wanted) faults.push(`${key} of ${name} is ${found}, not ${wanted === "" ? "empty" : wanted}`);
  };
  for (const key of ["Uid", "Gid"]) expectOf(key, Array(4).fill(uid).join("\t"));
  expectOf("Groups", "");
  for (const key of capabilitySets) expectOf(key, "0000000000000000");
  if (!facts.cgroup.endsWith(cgroup)) faults.push(`the cgroup of ${name} is ${facts.cgroup}`);
  for (const shared of sharedNamespaces) faults.push(`${name} is in the host's ${shared} namespace`);
  return [...faults, ...filterFaultsOf(facts, stage)];
}

/** What of that may still come right by itself. */
function filterFaultsOf({ name, status }: ThreadFacts, stage: FilterStage): string[] {
  if (stage === "api" && name !== "fc_api") return [];
  return [
    ...(status.get("Seccomp") === filtered ? [] : [`${name} has no seccomp filter`]),
    ...(status.get("NoNewPrivs") === "1" ? [] : [`${name} may gain privileges`]),
  ];
}

/**
 * Throws `denied` when anything about a VMM is not as it was asked for. At stage `all` its filters are waited for, for a moment.
 */
export async function checkConfinement(pid: number, wanted: Confinement, stage: FilterStage): Promise<void> {
  const deadline = systemClock.monotonicMs() + filterLimitMs;
  for (;;) {
    const threads = await threadsOf(pid);
    const faults = [...threads.flatMap((thread) => faultsOf(thread, wanted, stage)), ...(await processFaults(pid, wanted))];
    if (!threads.some(({ name }) => name === "fc_api")) faults.push("it has no thread that serves its API");
    if (faults.length === 0) return;
    const mayWait = stage === "all" && threads.flatMap((thread) => filterFaultsOf(thread, stage)).length === faults.length;
    if (!mayWait || systemClock.monotonicMs() > deadline) {
      throw new PitwallError("denied", `the VMM is not confined as it must be: ${faults.join("; ")}`, { reason: "VMM_UNCONFINED" });
    }
    await systemClock.sleep(pollMs);
  }
}

async function processFaults(pid: number, { root, limits }: Confinement): Promise<string[]> {
  const faults: string[] = [];
  if (!(await isRootOf(pid, root))) faults.push("its root is not its jail");
  const text = await readFile(`/proc/${pid}/limits`, "utf8");
  for (const [name, value] of Object.entries(limits)) {
    const line = text.split("\n").find((one) => one.startsWith(name));
    const [soft, hard] = (line ?? "").slice(name.length).trim().split(/\s+/);
    if (soft !== value || hard !== value) faults.push(`its limit "${name}" is ${soft ?? "absent"}, not ${value}`);
  }
  return faults;
}

/** Whether a folder is the root that a process sees. */
export async function isRootOf(pid: number, dir: string): Promise<boolean> {
  const [seen, wanted] = await Promise.all([stat(`/proc/${pid}/root`), stat(dir)].map((found) => found.catch(() => undefined)));
  return seen !== undefined && wanted !== undefined && seen.dev === wanted.dev && seen.ino === wanted.ino;
}

async function threadsOf(pid: number): Promise<ThreadFacts[]> {
  const own = await Promise.all(namespaces.map((name) => readlink(`/proc/self/ns/${name}`)));
  const tids = await readdir(`/proc/${pid}/task`);
  return Promise.all(
    tids.map(async (tid) => {
      const dir = `/proc/${pid}/task/${tid}`;
      const [status, cgroup, ...theirs] = await Promise.all([
        readFile(`${dir}/status`, "utf8"),
        readFile(`${dir}/cgroup`, "utf8"),
        ...namespaces.map((name) => readlink(`${dir}/ns/${name}`)),
      ]);
      const facts = parseStatus(status);
      const v2 = cgroup.split("\n").find((line) => line.startsWith("0::")) ?? "none";
      return {
        name: facts.get("Name") ?? tid,
        status: facts,
        cgroup: v2.slice("0::".length),
        sharedNamespaces: namespaces.filter((_, at) => theirs[at] === own[at]),
      };
    }),
  );
}

/** `Key:\tvalue` lines. */
export function parseStatus(text: string): ReadonlyMap<string, string> {
  return new Map(
    text
      .split("\n")
      .map((line) => /^(\w+):\s*(.*?)\s*$/.exec(line))
      .filter((match) => match !== null)
      .map(([, key = "", value = ""]) => [key, value]),
  );
}
