// Runs nft, ip, bridge and conntrack: text in, JSON out, no shell.
import { execFile, spawn } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { isMissing, PitwallError } from "@pitwall/runtime";
import { z } from "zod";

const runFile = promisify(execFile);
const limitMs = 20_000;
const maxOutput = 64 * 2 ** 20;
/** What root runs is looked for in the system's own folders alone. */
const env = { PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", LC_ALL: "C" };

/** All or nothing. From a file: nft opens /dev/stdin again, and a child's stdin is a socket. */
export async function applyRules(script: string): Promise<void> {
  const dir = await mkdtemp(join(tmpdir(), "pitwall-nft-"));
  const file = join(dir, "script.nft");
  try {
    await writeFile(file, script, { mode: 0o600 });
    await output("nft", ["-f", file]);
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}

/** Runs all lines, also behind one that fails: what is there afterwards says whether it worked. Resolves with what was complained of. */
export async function runLines(program: "ip" | "bridge", lines: readonly string[]): Promise<string> {
  if (lines.length === 0) return "";
  const child = spawn(program, ["-force", "-batch", "-"], { env, stdio: ["pipe", "ignore", "pipe"], timeout: limitMs });
  let complaints = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => (complaints += text));
  child.stdin.on("error", () => undefined); // it ended before it had read all, which its exit says better
  child.stdin.end(`${lines.join("\n")}\n`);
  await new Promise<void>((resolve, reject) => {
    child.once("close", () => resolve());
    child.once("error", (cause) => reject(cannotRun(program, cause)));
  });
  return complaints.trim();
}

/** Forgets the connections of an address, from it and to it. Without conntrack's program they end by themselves. */
export async function forgetFlows(address: string): Promise<void> {
  const family = address.includes(":") ? "ipv6" : "ipv4";
  const ways = ["--orig-src", "--orig-dst"] as const;
  // It fails when there is none.
  await Promise.all(
    ways.map((way) => runFile("conntrack", ["-D", "-f", family, way, address], { env, timeout: limitMs }).catch(() => undefined)),
  );
}

const link = z.object({
  ifname: z.string(),
  mtu: z.number(),
  flags: z.array(z.string()),
  master: z.string().optional(),
  ifalias: z.string().optional(),
  linkinfo: z
    .object({
      info_kind: z.string().optional(),
      info_slave_data: z.object({ isolated: z.boolean(), learning: z.boolean(), flood: z.boolean() }).partial().optional(),
    })
    .optional(),
});
export type HostLink = z.infer<typeof link>;

export async function readLinks(): Promise<readonly HostLink[]> {
  return z.array(link).parse(JSON.parse((await output("ip", ["-j", "-d", "link", "show"])) || "[]"));
}

const route = z.object({ dst: z.string(), dev: z.string().optional(), protocol: z.string().optional(), gateway: z.string().optional() });
export type HostRoute = z.infer<typeof route>;

export async function readRoutes(family: 4 | 6): Promise<readonly HostRoute[]> {
  return z.array(route).parse(JSON.parse((await output("ip", ["-j", `-${family}`, "route", "show"])) || "[]"));
}

const listed = z.object({
  nftables: z.array(
    z.object({
      table: z.object({ family: z.string(), name: z.string() }).optional(),
      chain: z
        .object({ family: z.string(), table: z.string(), name: z.string(), hook: z.string().optional(), policy: z.string().optional() })
        .optional(),
    }),
  ),
});
export type HostChain = NonNullable<z.infer<typeof listed>["nftables"][number]["chain"]>;

/** All chains of all tables, whoever they belong to. */
export async function readChains(): Promise<readonly HostChain[]> {
  const { nftables } = listed.parse(JSON.parse(await output("nft", ["-j", "list", "chains"])));
  return nftables.flatMap(({ chain }) => (chain ? [chain] : []));
}

const owned = z.object({
  nftables: z.array(
    z.object({
      chain: z.object({ family: z.string(), name: z.string() }).optional(),
      rule: z.object({ family: z.string(), chain: z.string() }).optional(),
    }),
  ),
});

/** How many rules each chain of Pitwall's tables has, by `FAMILY CHAIN`. */
export async function readRuleCounts(): Promise<ReadonlyMap<string, number>> {
  const counts = new Map<string, number>();
  for (const family of ["bridge", "inet"]) {
    const text = await output("nft", ["-j", "-t", "list", "table", family, "pitwall"]).catch(noSuchTable);
    for (const { chain, rule } of owned.parse(JSON.parse(text)).nftables) {
      if (chain) counts.set(`${chain.family} ${chain.name}`, 0);
      if (rule) counts.set(`${rule.family} ${rule.chain}`, (counts.get(`${rule.family} ${rule.chain}`) ?? 0) + 1);
    }
  }
  return counts;
}

function noSuchTable(error: unknown): string {
  if (error instanceof PitwallError && error.fault === "unsupported") throw error;
  return JSON.stringify({ nftables: [] });
}

/** Elements of a set of the bridge's table, as words. Empty when there is no such table. */
export async function readAddresses4(): Promise<readonly string[]> {
  const text = await output("nft", ["-j", "list", "set", "bridge", "pitwall", "addresses4"]).catch(() => undefined);
  if (text === undefined) return [];
  const shape = z.object({
    nftables: z.array(
      z.object({ set: z.object({ elem: z.array(z.object({ concat: z.tuple([z.string(), z.string()]) })).optional() }).optional() }),
    ),
  });
  return shape.parse(JSON.parse(text)).nftables.flatMap(({ set }) => (set?.elem ?? []).map(({ concat }) => concat.join(" ")));
}

/** Its standard output. Throws `unsupported` when the program is not there, `internal` with what it said when it fails. */
export async function output(program: string, args: readonly string[]): Promise<string> {
  try {
    return (await runFile(program, [...args], { env, maxBuffer: maxOutput, timeout: limitMs })).stdout;
  } catch (cause) {
    const said = cause instanceof Error && "stderr" in cause ? String(cause.stderr).trim().split("\n").slice(0, 3).join(" | ") : "";
    if (isMissing(cause)) throw cannotRun(program, cause);
    throw new PitwallError("internal", `${program} failed: ${said || String(cause)}`, { reason: "NETWORK_COMMAND_FAILED", cause });
  }
}

function cannotRun(program: string, cause: unknown): PitwallError {
  const packages: Readonly<Record<string, string>> = { nft: "nftables", ip: "iproute2", bridge: "iproute2" };
  return new PitwallError("unsupported", `${program} cannot be run: install ${packages[program] ?? program}`, {
    reason: "NETWORK_PROGRAM_MISSING",
    cause,
  });
}
