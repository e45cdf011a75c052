// What goes wrong in a simulation, and when: a YAML or JSON file. docs/simulate.md lists it for users.
import { duration, failpointList, PitwallError } from "@pitwall/runtime";
import { parse } from "yaml";
import { z } from "zod";

/** `20ms`, or `20ms..2s`: drawn evenly from that, for each VM anew. */
const span = z.string().transform((text, context) => {
  const [from, to = from, ...more] = text.split("..").map((part) => duration.safeParse(part));
  if (!from?.success || !to?.success || more.length > 0 || from.data > to.data) {
    context.addIssue({ code: "custom", message: `expected a duration or a range, such as 20ms or 20ms..2s, got "${text}"` });
    return z.NEVER;
  }
  return { fromMs: from.data, toMs: to.data };
});
export type Span = z.output<typeof span>;

/** Which nodes, and which of their VMs: counted from 1 as they are placed on the node. All that is said must hold. */
const selection = {
  nodes: z
    .string()
    .regex(/^[a-z0-9*-]+$/, "must be a node's name; * stands for any characters")
    .default("*"),
  vm: z.int().positive().optional(),
  every: z.int().positive().optional(),
  chance: z.number().min(0).max(1).optional(),
};
/** A simulated node jails and pulls nothing, and has no bridge; its tunnels and its fence are the host's. */
const elsewhere = /^(jail|net|tunnel|fence)\.|^create\.(pull|flatten)\./;
/** Where its agent can be made to die, as the trace names it. */
export const agentSteps: readonly string[] = Object.entries(failpointList)
  .filter(([name, { owner, kind }]) => owner === "node" && kind === "step" && !elsewhere.test(name))
  .map(([name]) => name);
const phases = z.enum(["PREPARING", "BOOTING", "RUNNING", "STOPPING", "STOPPED", "FAILED", "DELETING", "GONE"]);
const times = z.int().positive().default(1);

const fault = z.discriminatedUnion("fault", [
  z.strictObject({ fault: z.literal("slow-boot"), ...selection, for: span }),
  z.strictObject({ fault: z.literal("failed-boot"), ...selection, message: z.string().max(200).default("the script says so") }),
  z.strictObject({ fault: z.literal("slow-shutdown"), ...selection, for: span }),
  z.strictObject({ fault: z.literal("disk-full"), ...selection }),
  z.strictObject({ fault: z.literal("guest-exit"), ...selection, after: span, code: z.int().min(0).max(255).default(0) }),
  z.strictObject({ fault: z.literal("vmm-killed"), ...selection, after: span }),
  z.strictObject({ fault: z.literal("lost-report"), ...selection, phase: phases.optional(), times }),
  z.strictObject({ fault: z.literal("duplicated-report"), ...selection, phase: phases.optional(), times }),
  z.strictObject({
    fault: z.literal("agent-crash"),
    ...selection,
    step: z.string().refine((name) => agentSteps.includes(name), `must be one of ${agentSteps.join(", ")}`),
    times,
    restart: span.prefault("1s"),
  }),
  z.strictObject({ fault: z.literal("node-loss"), nodes: selection.nodes, at: span.optional(), vm: selection.vm, back: span.optional() }),
  z.strictObject({ fault: z.literal("clock-jump"), nodes: selection.nodes, at: span, by: z.string().regex(/^[+-]/, "begins with + or -") }),
]);

const script = z.strictObject({
  prepare: span.prefault("5ms"),
  boot: span.prefault("20ms"),
  shutdown: span.prefault("20ms"),
  kill: span.prefault("0ms"),
  suspend: span.prefault("0ms"),
  faults: z.array(fault).default([]),
});

export type Script = Readonly<z.output<typeof script>>;
export type Fault = z.output<typeof fault>;
export type FaultOf<K extends Fault["fault"]> = Extract<Fault, { fault: K }>;

/** Nothing goes wrong. */
export const plainScript: Script = script.parse({});

/** Throws `invalid` with the place of each fault. */
export function parseScript(text: string): Script {
  let content: unknown;
  try {
    content = parse(text) ?? {};
  } catch (cause) {
    throw refuse(`it is neither YAML nor JSON: ${cause instanceof Error ? (cause.message.split("\n", 1)[0] ?? "") : ""}`, cause);
  }
  const result = script.safeParse(content);
  if (!result.success) throw refuse(result.error.issues.map(({ path, message }) => `${path.join(".") || "it"}: ${message}`).join("; "));
  for (const [index, entry] of result.data.faults.entries()) {
    if (entry.fault === "node-loss" && (entry.at === undefined) === (entry.vm === undefined))
      throw refuse(`faults.${index}: node-loss needs either at (a time) or vm (after which it happens)`);
    if (entry.fault === "clock-jump" && !duration.safeParse(entry.by.slice(1)).success)
      throw refuse(`faults.${index}.by: expected a sign and a duration, such as -10m, got "${entry.by}"`);
  }
  return result.data;
}

/** Signed milliseconds of a clock jump. */
export function jumpMs({ by }: FaultOf<"clock-jump">): number {
  return duration.parse(by.slice(1)) * (by.startsWith("-") ? -1 : 1);
}

function refuse(why: string, cause?: unknown): PitwallError {
  return new PitwallError("invalid", `the simulation's script: ${why}`, { field: "simulate", reason: "INVALID_CONFIG", cause });
}
