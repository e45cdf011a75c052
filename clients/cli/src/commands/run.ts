// pitwall run: makes a VM of an image and waits until it runs.
import { Option, type Command } from "commander";
import { RestartPolicy, type CreateVmOptions, type VmSpec } from "@pitwall/sdk";
import { inSession, withEndpoint, type EndpointOption } from "../account/session.ts";
import { absoluteImage } from "../input/image-reference.ts";
import { bandwidthIn, withBandwidth, type BandwidthOptions } from "../input/bandwidth.ts";
import { egressOf, withEgress, type EgressOption } from "../input/egress.ts";
import { parseLifeMs } from "../input/life.ts";
import { addItem, addPair, type Pairs } from "../input/pairs.ts";
import { placementOf, withPlacement, type PlacementOptions } from "../input/placement.ts";
import { changeOf, withPlan, type PlannedOptions } from "../input/planned.ts";
import { projectOption, type ProjectOption } from "../input/project.ts";
import { readPublicKey } from "../input/public-key.ts";
import { timeoutOption } from "../input/timeout.ts";
import { parseByteSize, parseCpuMillis } from "../input/quantities.ts";
import { openColours } from "../output/colours.ts";
import { show, withOutput, type Format } from "../output/format.ts";
import { plain } from "../output/terminal-text.ts";
import type { Shell } from "../shell.ts";
import { follow } from "../vm/follow.ts";
import { planView } from "../vm/plan-view.ts";
import { vmTable } from "../vm/views.ts";

interface RunOptions extends EndpointOption, ProjectOption, PlacementOptions, EgressOption, BandwidthOptions, PlannedOptions {
  readonly ttl?: number;
  readonly protect?: boolean;
  readonly name?: string;
  readonly cpu?: number;
  readonly memory?: bigint;
  readonly disk?: bigint;
  readonly env?: Pairs;
  readonly label?: Pairs;
  readonly key?: readonly string[];
  readonly readOnly?: boolean;
  readonly restart: keyof typeof restartPolicies;
  readonly strict?: boolean;
  readonly wait: boolean;
  readonly timeout: number;
  readonly output: Format;
}

const restartPolicies = {
  no: RestartPolicy.RESTART_POLICY_NEVER,
  "on-failure": RestartPolicy.RESTART_POLICY_ON_FAILURE,
  always: RestartPolicy.RESTART_POLICY_ALWAYS,
} as const;

export function declare(command: Command, shell: Shell): void {
  withOutput(
    withEndpoint(
      withPlacement(
        withBandwidth(
          withEgress(withPlan(command, "where it would be placed, and why not elsewhere"))
            .argument("<image>", "registry/name:tag, registry/name@sha256:…, oci:DIR[:TAG] or docker-archive:FILE")
            .argument("[args...]", "replace the image's CMD; put -- before them"),
        )
          .option("--name <name>", "the VM's name; the server makes one up without it")
          .option("--cpu <amount>", "CPUs, such as 2 or 500m (server's default: 1)", parseCpuMillis)
          .option("--memory <size>", "such as 512Mi (server's default: 256Mi)", parseByteSize)
          .option("--disk <size>", "the writable disk, such as 8Gi (server's default: 4Gi)", parseByteSize)
          .option("--env <name=value>", "an environment variable; may be repeated", addPair)
          .option("--label <name=value>", "a label; may be repeated", addPair)
          .option("--key <file>", "a public key that may log in beside yours; may be repeated", addItem)
          .addOption(
            new Option("--restart <policy>", "start the image's process again after it has ended")
              .choices(Object.keys(restartPolicies))
              .default("no"),
          )
          .option("--read-only", "let nothing but the image's volumes be written")
          .addOption(projectOption())
          .addOption(new Option("--ttl <time>", "remove it by itself after this time, such as 12h or 30d").argParser(parseLifeMs))
          .option("--protect", "let nobody delete it until `pitwall update --no-protect`")
          .option("--strict", "refuse an image of which anything would be ignored; `pitwall images check` says what")
          .option("--no-wait", "return as soon as the VM is placed")
          .addOption(timeoutOption("how long to wait for it to run", 120)),
      ),
    ),
  )
    .description("Makes a VM of an image, waits until it runs, and shows it.")
    .addHelpText("after", '\nExample:\n  pitwall run nginx:1.27 --name web --memory 512Mi -- nginx -g "daemon off;"')
    .action(async (image: string, args: readonly string[], options: RunOptions) => run(shell, image, args, options));
}

async function run(shell: Shell, image: string, args: readonly string[], options: RunOptions): Promise<void> {
  const authorizedKeys = await Promise.all((options.key ?? []).map((file) => readPublicKey(file, shell.folder)));
  await inSession(shell, options, async ({ pitwall }) => {
    const wanted: CreateVmOptions = {
      name: options.name ?? "",
      strict: options.strict ?? false,
      project: options.project ?? "",
      deleteProtection: options.protect ?? false,
      ...changeOf(options),
      ...(options.ttl !== undefined && { ttlMs: options.ttl }),
      spec: {
        image: absoluteImage(image, shell.folder),
        cpuMillis: options.cpu ?? 0,
        memBytes: options.memory ?? 0n,
        diskBytes: options.disk ?? 0n,
        args: [...args],
        env: { ...options.env },
        labels: { ...options.label },
        readOnlyRoot: options.readOnly ?? false,
        restartPolicy: restartPolicies[options.restart],
        authorizedKeys,
        ...placementOf(options),
        ...egressIn(options),
        ...bandwidthIn(options),
      },
    };
    if (options.dryRun) return show(shell, options.output, planView([await pitwall.vms.plan.create(wanted)], { isOne: true }));
    const made = await pitwall.vms.create(wanted);
    const goOn = (): void => shell.note(`${plain(made.name)} goes on without you: \`pitwall rm ${plain(made.name)}\` removes it`);
    shell.signals.signal.addEventListener("abort", goOn, { once: true });
    const vm = options.wait ? await follow(shell, pitwall, made, "running", options.timeout) : made;
    shell.signals.signal.removeEventListener("abort", goOn);
    const appearance = { colours: openColours(shell.hasColour), nowMs: shell.wallMs(), isOne: true };
    return show(shell, options.output, vmTable([vm ?? made], appearance));
  });
}

function egressIn(options: RunOptions): Pick<Partial<VmSpec>, "egress"> {
  const egress = egressOf(options);
  return egress ? { egress } : {};
}
