// What a program and its children ask of the host's file system, by strace.
import { execFile } from "node:child_process";
import { mkdir, readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";

const run = promisify(execFile);
const maxOutputBytes = 2 ** 24;
/** A string with all of its bytes in hex, and the mark of one that was cut. */
const quoted = /"((?:\\x[0-9a-f]{2})*)"(\.{3})?/g;
const changes =
  /\bO_(?:WRONLY|RDWR|CREAT|TRUNC|APPEND)\b|^(?:creat|mkdir|mknod|link|symlink|rename|unlink|rmdir|l?f?chmod|l?f?chown|truncate|l?setxattr|l?removexattr|futimes|utime)[a-z0-9]*\(/;

/** A call that names files. */
export interface FileCall {
  /** Its name, and how it opens. */
  readonly what: string;
  /** Its strings, which are paths but for the words of a new process and for what a link says. */
  readonly strings: readonly string[];
  /** Whether it may change a file. */
  readonly isChange: boolean;
}

/** Why nothing can be traced here, or undefined. */
export async function whyNoTrace(): Promise<string | undefined> {
  try {
    await run("strace", ["-o", "/dev/null", "true"]);
    return undefined;
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return "strace is missing: install the Debian package strace";
    return `this host does not let processes be traced: ${error instanceof Error ? error.message.trim() : String(error)}`;
  }
}

/** Runs a program to its end, which must be a good one. What strace writes goes to `dir`, which is made. */
export async function traced(dir: string, line: readonly string[], cwd?: string): Promise<{ stdout: string; calls: FileCall[] }> {
  await mkdir(dir);
  // A file for each process, so that no call is interrupted by another one's; with -xx no byte of a name can be mistaken for the format's.
  const options = ["-ff", "-qq", "-xx", "-s", "65536", "--seccomp-bpf", "-e", "trace=%file", "-e", "signal=none", "-o", join(dir, "trace")];
  const { stdout } = await run("strace", [...options, ...line], { cwd, maxBuffer: maxOutputBytes });
  const traces = await Promise.all((await readdir(dir)).map((name) => readFile(join(dir, name), "latin1")));
  return { stdout, calls: traces.flatMap((text) => text.split("\n").flatMap((one) => (one.includes("(") ? [parse(one)] : []))) };
}

function parse(line: string): FileCall {
  const strings: string[] = [];
  const rest = line.replace(quoted, (_, hex: string, cut: string | undefined) => {
    if (cut !== undefined) throw new Error(`strace cut a string: ${line.slice(0, 200)}`);
    strings.push(Buffer.from(hex.replaceAll("\\x", ""), "hex").toString("latin1"));
    return `"…"`;
  });
  if (/\\x[0-9a-f]{2}/.test(rest)) throw new Error(`a line of strace is not understood: ${line.slice(0, 200)}`);
  const what = [/^\w+/.exec(rest)?.[0] ?? rest, ...(rest.match(/\bO_\w+/g) ?? [])].join(" ");
  return { what, strings, isChange: changes.test(rest) };
}
