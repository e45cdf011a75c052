// What the probe says (probe/probe.go), and how two of its reports differ.
import { z } from "zod";

const texts = z.record(z.string(), z.string());
const report = z.object({
  argv: z.array(z.string()),
  env: z.array(z.string()),
  cwd: z.string(),
  status: texts,
  limits: texts,
  mounts: z.array(z.object({ target: z.string(), type: z.string(), options: z.array(z.string()) })),
  files: texts,
  paths: texts,
  stdio: z.array(z.string()),
});
export type Report = z.output<typeof report>;

export interface Difference {
  /** What differs, such as `mount /sys` or `env TERM`. */
  readonly what: string;
  readonly container: string;
  readonly vm: string;
}

/** Mount options that say what a process may do. */
const keyOptions: ReadonlySet<string> = new Set(["ro", "nosuid", "nodev", "noexec"]);
/** Limits that the contract names; all others are the kernel's. */
const namedLimits = ["open files", "core file size", "processes"];

/** The report in what a process wrote; undefined while it has not written one. */
export function findReport(output: string): Report | undefined {
  const text = /^REPORT (.*)$/m.exec(output)?.[1];
  return text === undefined ? undefined : report.parse(JSON.parse(text));
}

/** The signal that ended a probe's wait. */
export function findSignal(output: string): number | undefined {
  const text = /^SIGNAL (\d+)$/m.exec(output)?.[1];
  return text === undefined ? undefined : Number(text);
}

/** Everything that is compared, in the order of its names. */
export function differences(container: Readonly<Record<string, string>>, vm: Readonly<Record<string, string>>): Difference[] {
  const names = [...new Set([...Object.keys(container), ...Object.keys(vm)])].toSorted();
  return names
    .map((what) => ({ what, container: container[what] ?? "absent", vm: vm[what] ?? "absent" }))
    .filter((one) => one.container !== one.vm);
}

/** A report as named texts. */
export function facts(of: Report): Record<string, string> {
  const all: Record<string, string> = {
    argv: JSON.stringify(of.argv),
    cwd: of.cwd,
    stdio: of.stdio.join(" "),
  };
  for (const pair of of.env) all[`env ${pair.split("=", 1)[0]}`] = pair.slice(pair.indexOf("=") + 1);
  for (const [name, value] of Object.entries(of.status)) all[`status ${name}`] = value;
  for (const name of namedLimits) all[`limit ${name}`] = of.limits[name] ?? "absent";
  for (const { target, type, options } of of.mounts) {
    // What is below the control groups' mount is the host's choice of their version.
    if (!target.startsWith("/sys/fs/cgroup/"))
      all[`mount ${target}`] = [type, ...options.filter((option) => keyOptions.has(option))].join(" ");
  }
  for (const [name, content] of Object.entries(of.files)) all[`file ${name}`] = content;
  for (const [name, text] of Object.entries(of.paths)) all[`path ${name}`] = text;
  return all;
}
