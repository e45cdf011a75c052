// pitwall update, rename, extend and undelete: what becomes of a VM that is there.
import { Option, type Command } from "commander";
import { NodeLossPolicy, RestartPolicy, type PlannedVm, type Vm, type VmUpdate } from "@pitwall/sdk";
import { inSession, withEndpoint, type EndpointOption, type Session } from "../account/session.ts";
import { usageError } from "../failure.ts";
import { parsePort } from "../input/forward.ts";
import { bandwidthIn, withBandwidth, type BandwidthOptions } from "../input/bandwidth.ts";
import { egressOf, withEgress, type EgressOption } from "../input/egress.ts";
import { parseExpireTime } from "../input/expire-time.ts";
import { parseLifeMs } from "../input/life.ts";
import { addItem, addPair, type Pairs } from "../input/pairs.ts";
import { changeOf, withChange, type ChangedOptions } from "../input/planned.ts";
import { projectOption, vmIn, type ProjectOption } from "../input/project.ts";
import { readPublicKey } from "../input/public-key.ts";
import { parseByteSize, parseCpuMillis } from "../input/quantities.ts";
import { openColours } from "../output/colours.ts";
import { show, withOutput, type Format } from "../output/format.ts";
import type { Shell } from "../shell.ts";
import { planView } from "../vm/plan-view.ts";
import { vmTable } from "../vm/views.ts";

interface Options extends EndpointOption, ProjectOption, ChangedOptions {
  readonly output: Format;
}

interface UpdateOptions extends Options, EgressOption, BandwidthOptions {
  readonly label?: Pairs;
  readonly unlabel?: readonly string[];
  readonly cpu?: number;
  readonly memory?: bigint;
  readonly env?: Pairs;
  readonly args?: false;
  readonly key?: readonly string[] | false;
  readonly reschedule?: boolean;
  readonly expireTime?: Date | "never";
  readonly restart?: keyof typeof restartPolicies;
  readonly protect?: boolean;
  readonly host?: string | false;
  readonly httpPort?: number;
}

const restartPolicies = {
  no: RestartPolicy.RESTART_POLICY_NEVER,
  "on-failure": RestartPolicy.RESTART_POLICY_ON_FAILURE,
  always: RestartPolicy.RESTART_POLICY_ALWAYS,
} as const;

const { NODE_LOSS_POLICY_HOLD: holds, NODE_LOSS_POLICY_RESCHEDULE: reschedules } = NodeLossPolicy;

/** The options that all of these have. */
function changing(command: Command): Command {
  return withOutput(withEndpoint(withChange(command).addOption(projectOption())));
}

async function change(
  shell: Shell,
  options: Options,
  { plan, make }: { readonly plan: (session: Session) => Promise<PlannedVm>; readonly make: (session: Session) => Promise<Vm> },
): Promise<void> {
  await inSession(shell, options, async (session) => {
    if (options.dryRun) return show(shell, options.output, planView([await plan(session)], { isOne: true }));
    const appearance = { colours: openColours(shell.hasColour), nowMs: shell.wallMs(), isOne: true };
    return show(shell, options.output, vmTable([await make(session)], appearance));
  });
}

export function declareUpdate(command: Command, shell: Shell): void {
  changing(
    withBandwidth(
      withEgress(command.argument("<vm>", "name or id").argument("[args...]", "its arguments from its next start on; put -- before them")),
    )
      .option("--no-args", "the image's own arguments again, from its next start on")
      .option("--key <file>", "the public keys that may log in beside yours, in place of those it has; may be repeated", addItem)
      .option("--no-key", "nobody's keys but those of profiles")
      .option("--reschedule", "begin anew on another node, with an empty disk, when its node is lost")
      .option("--no-reschedule", "wait for its node then")
      .addOption(
        new Option("--expire-time <time>", "when it is removed by itself, such as 2027-01-31T12:00:00Z, or never").argParser(
          parseExpireTime,
        ),
      )
      .option("--label <name=value>", "set a label; may be repeated", addPair)
      .option("--unlabel <name>", "remove a label; may be repeated", addItem)
      .option("--cpu <amount>", "CPUs, such as 2 or 500m, from its next start on", parseCpuMillis)
      .option("--mem, --memory <size>", "such as 512Mi, from its next start on", parseByteSize)
      .option("--env <name=value>", "the environment in place of what it has, from its next start on; may be repeated", addPair)
      .addOption(
        new Option("--restart <policy>", "start the image's process again after it has ended").choices(Object.keys(restartPolicies)),
      )
      .option("--protect", "let nobody delete it")
      .option("--no-protect", "let it be deleted again")
      .option("--host <name>", "what it is called below the gateway's domain; unique in the installation")
      .option("--no-host", "nothing but its id there")
      .addOption(new Option("--http-port <port>", "its port for addresses that name none").argParser(parsePort)),
  )
    .description("Changes a VM; what no option names stays as it is.")
    .action(async (name: string, args: readonly string[], options: UpdateOptions) => {
      if (args.length > 0 && options.args === false) throw usageError("say either arguments or --no-args");
      const keys = options.key === false ? [] : options.key;
      const authorizedKeys = keys && (await Promise.all(keys.map((file) => readPublicKey(file, shell.folder))));
      const update = {
        ...updateOf(options),
        ...((args.length > 0 || options.args === false) && { args }),
        ...(authorizedKeys && { authorizedKeys }),
      };
      if (Object.keys(update).length === 0) throw usageError("say what to change: `pitwall update --help` lists it");
      const vm = vmIn(options, name);
      await change(shell, options, {
        plan: ({ pitwall }) => pitwall.vms.plan.update(vm, update, changeOf(options)),
        make: ({ pitwall }) => pitwall.vms.update(vm, update, changeOf(options)),
      });
    });
}

function updateOf({
  label,
  unlabel = [],
  cpu,
  memory,
  env,
  restart,
  reschedule,
  expireTime,
  protect,
  host,
  httpPort,
  ...more
}: UpdateOptions): VmUpdate {
  const egress = egressOf(more);
  const removed = Object.fromEntries(unlabel.map((key) => [key, null]));
  return {
    ...((label !== undefined || unlabel.length > 0) && { labels: { ...removed, ...label } }),
    ...(cpu !== undefined && { cpuMillis: cpu }),
    ...(memory !== undefined && { memBytes: memory }),
    ...(env !== undefined && { env }),
    ...(restart !== undefined && { restartPolicy: restartPolicies[restart] }),
    ...(egress !== undefined && { egress }),
    ...bandwidthIn(more),
    ...(reschedule !== undefined && { nodeLossPolicy: reschedule ? reschedules : holds }),
    ...(expireTime !== undefined && { expireTime: expireTime === "never" ? null : expireTime }),
    ...(protect !== undefined && { deleteProtection: protect }),
    ...((host !== undefined || httpPort !== undefined) && {
      ingress: { ...(host !== undefined && { host: host === false ? null : host }), ...(httpPort !== undefined && { port: httpPort }) },
    }),
  };
}

export function declareRename(command: Command, shell: Shell): void {
  changing(command.argument("<vm>", "name or id").argument("<name>", "its new name"))
    .description("Gives a VM another name; its host name follows at its next start.")
    .action(async (vm: string, name: string, options: Options) => {
      const reference = vmIn(options, vm);
      await change(shell, options, {
        plan: ({ pitwall }) => pitwall.vms.plan.rename(reference, name, changeOf(options)),
        make: ({ pitwall }) => pitwall.vms.rename(reference, name, changeOf(options)),
      });
    });
}

export function declareExtend(command: Command, shell: Shell): void {
  changing(
    command
      .argument("<vm>", "name or id")
      .addOption(new Option("--ttl <time>", "how long it lives from now on, such as 12h or 30d").argParser(parseLifeMs))
      .option("--forever", "until somebody deletes it"),
  )
    .description("Moves the end of a VM's life.")
    .action(async (name: string, options: Options & { readonly ttl?: number; readonly forever?: boolean }) => {
      if ((options.ttl === undefined) === (options.forever === undefined)) throw usageError("say either --ttl TIME or --forever");
      const ttlMs = options.ttl ?? null;
      const vm = vmIn(options, name);
      await change(shell, options, {
        plan: ({ pitwall }) => pitwall.vms.plan.extend(vm, ttlMs, changeOf(options)),
        make: ({ pitwall }) => pitwall.vms.extend(vm, ttlMs, changeOf(options)),
      });
    });
}

export function declareUndelete(command: Command, shell: Shell): void {
  changing(
    command.argument("<id>", "as `pitwall ls --deleted` shows it").option("--name <name>", "another name, where its own was given away"),
  )
    .description("Brings a removed VM back, stopped, with its disk and its address, while its project still keeps it.")
    .action(async (id: string, options: Options & { readonly name?: string }) => {
      const more = { ...changeOf(options), ...(options.name !== undefined && { name: options.name }) };
      await change(shell, options, {
        plan: ({ pitwall }) => pitwall.vms.plan.undelete(id, more),
        make: ({ pitwall }) => pitwall.vms.undelete(id, more),
      });
    });
}
