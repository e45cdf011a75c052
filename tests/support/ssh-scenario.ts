// One thing that a client of SSH does, what comes of it, and by which ways.
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { expect } from "vitest";
import { run, runForBytes, type Ended } from "./run.ts";
import type { SshPlace, Way } from "./ssh-place.ts";

export interface Scenario {
  readonly name: string;
  readonly ways: readonly Way[];
  /** Throws when it is not as it should be. */
  see(place: SshPlace, way: Way): Promise<void>;
}

/** All that a command line does: each part is compared. */
export interface Saying {
  /** Before the command; told where it is, for options that name files. */
  readonly options?: readonly string[] | ((place: SshPlace, way: Way) => readonly string[]);
  readonly command?: readonly string[];
  /** Instead of the VM: a host of the configuration. */
  readonly host?: string | ((way: Way) => string);
  readonly input?: string | Buffer;
  readonly env?: NodeJS.ProcessEnv;
  /** Default: 0. */
  readonly code?: number;
  /** Default: nothing. Bytes are compared by length and SHA-256. */
  readonly stdout?: string | Buffer | RegExp;
  readonly stderr?: string | RegExp;
}

/** By ssh alone: `pitwall ssh` takes none of its options. */
export const bySsh = ["door", "inside", "file"] as const;
export const byGateway = ["door", "inside"] as const;

export function says(name: string, ways: readonly Way[], saying: Saying): Scenario {
  const { options = [], command = [], host, input, env, code = 0, stdout = "", stderr = "" } = saying;
  return {
    name,
    ways,
    async see(place, way) {
      const line = place.line(way, {
        options: typeof options === "function" ? options(place, way) : options,
        command,
        ...(host !== undefined && { host: typeof host === "function" ? host(way) : host }),
      });
      const ended = await runForBytes(line, { ...(input !== undefined && { input }), env: { ...place.env, ...env } });
      const said = { code: ended.code, stdout: seen(ended.stdout, stdout), stderr: seen(Buffer.from(ended.stderr), stderr) };
      expect(said, line.join(" ").slice(0, 400)).toEqual({ code, stdout: wanted(stdout), stderr: wanted(stderr) });
    },
  };
}

/** What takes more than a command line. */
export function does(name: string, ways: readonly Way[], see: Scenario["see"]): Scenario {
  return { name, ways, see };
}

/** `ssh`, by one of the ways, to its end. */
export async function ssh(place: SshPlace, way: Way, options: readonly string[], ...command: readonly string[]): Promise<Ended> {
  return run(place.line(way, { options, command }), { env: place.env });
}

/** Answers what is said on standard output: waits for each text in turn, and then says the other. */
export async function talk(
  place: SshPlace,
  [program = "", ...args]: readonly string[],
  turns: readonly (readonly [until: string, say: string])[],
): Promise<{ code: number | null; stdout: string }> {
  const child = spawn(program, args, { env: { ...process.env, ...place.env }, stdio: ["pipe", "pipe", "inherit"] });
  const timer = setTimeout(() => child.kill("SIGKILL"), talkLimitMs);
  const left = [...turns];
  let stdout = "";
  let at = 0;
  child.stdin.on("error", () => undefined); // it may end before it is spoken to
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    stdout += text;
    for (;;) {
      const [until, say] = left[0] ?? [];
      const found = until === undefined ? -1 : stdout.indexOf(until, at);
      if (until === undefined || say === undefined || found < 0) return;
      at = found + until.length;
      left.shift();
      child.stdin.write(say);
    }
  });
  const code = await new Promise<number | null>((resolve, reject) => child.once("close", resolve).once("error", reject));
  clearTimeout(timer);
  return { code, stdout };
}

const talkLimitMs = 60_000;

function seen(bytes: Buffer, against: string | Buffer | RegExp): unknown {
  if (typeof against === "string") return bytes.toString();
  return Buffer.isBuffer(against) ? digest(bytes) : against.test(bytes.toString()) ? String(against) : bytes.toString();
}

function wanted(what: string | Buffer | RegExp): unknown {
  return Buffer.isBuffer(what) ? digest(what) : String(what);
}

export function digest(bytes: Buffer): string {
  return `${bytes.length} bytes, ${sha256(bytes)}`;
}

export const sha256 = (bytes: Buffer): string => createHash("sha256").update(bytes).digest("hex");
