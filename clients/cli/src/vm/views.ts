// VMs as tables and lists.
import { Health, Phase, Vm, type VmTimings } from "@pitwall/sdk";
import { bandwidthWords } from "../input/bandwidth.ts";
import { egressWords } from "../input/egress.ts";
import type { View } from "../output/format.ts";
import { fieldList, table, type Cell } from "../output/table.ts";
import {
  ageWord,
  byteWord,
  askedWord,
  cpuWord,
  desiredWord,
  durationWord,
  exitWord,
  healthWord,
  phaseWord,
  restartWord,
} from "../output/words.ts";
import type { Colours } from "../output/colours.ts";

const headings = ["NAME", "PHASE", "HEALTH", "RESTARTS", "CPU", "MEMORY", "NODE", "AGE", "IMAGE"];

export interface Appearance {
  readonly colours: Colours;
  readonly nowMs: number;
  /** Makes the JSON the VM itself. */
  readonly isOne?: boolean;
  /** With a column for the project, and for the id, of which the latter is what a removed VM is called by. */
  readonly hasProject?: boolean;
  readonly hasId?: boolean;
}

/** One line per VM. */
export function vmTable(vms: readonly Vm[], { colours, nowMs, isOne = false, hasProject = false, hasId = false }: Appearance): View {
  const more = (vm: Vm): Cell[] => [...(hasProject ? [vm.project] : []), ...(hasId ? [vm.id] : [])];
  return {
    table: () =>
      table(
        [...(hasProject ? ["PROJECT"] : []), ...(hasId ? ["ID"] : []), ...headings],
        vms.map((vm) => [...more(vm), ...row(vm, colours, nowMs)]),
      ),
    json: isOne ? vms.map((vm) => Vm.toJSON(vm))[0] : vms.map((vm) => Vm.toJSON(vm)),
    names: vms.map(({ name }) => name),
  };
}

function row({ name, phase, reason, spec, nodeName, createTime, ...vm }: Vm, colours: Colours, nowMs: number): Cell[] {
  // A VM runs on when the image's own process has ended, which is easily missed.
  const why = reason === "" && vm.serviceExit ? `service: ${exitWord(vm.serviceExit)}` : reason;
  const state = vm.deleteTime ? "removed" : phaseWord(phase);
  const text = why === "" ? state : `${state} (${why})`;
  return [
    name,
    { text, paint: phasePaint(phase, colours) },
    healthCell(vm.health, colours),
    String(vm.restartCount),
    cpuWord(spec?.cpuMillis ?? 0),
    byteWord(spec?.memBytes ?? 0n),
    nodeName || vm.nodeId,
    ageWord(createTime, nowMs),
    spec?.image ?? "",
  ];
}

function phasePaint(phase: Phase, colours: Colours): (text: string) => string {
  if (phase === Phase.PHASE_RUNNING) return colours.green;
  if (phase === Phase.PHASE_FAILED) return colours.red;
  return phase === Phase.PHASE_STOPPED ? colours.dim : colours.yellow;
}

function healthCell(health: Health, colours: Colours): Cell {
  const text = healthWord(health) || "-";
  return health === Health.HEALTH_UNHEALTHY ? { text, paint: colours.red } : text;
}

/** Everything about one VM. */
export function vmDetails(vm: Vm, { colours, nowMs }: { colours: Colours; nowMs: number }): View {
  const { spec } = vm;
  const fields = (): [string, Cell][] => [
    ["Name", vm.name],
    ["Id", vm.id],
    ["Phase", { text: phaseWord(vm.phase), paint: phasePaint(vm.phase, colours) }],
    ["Reason", vm.reason],
    ...lines("Message", vm.message),
    ["Desired", desiredWord(vm.desired)],
    ["Project", vm.project],
    ["Protected", vm.deleteProtection ? "from deletion" : ""],
    ["Ends", vm.expireTime?.toISOString() ?? ""],
    ["Removed", vm.deleteTime ? `${vm.deleteTime.toISOString()}; can be brought back until ${vm.purgeTime?.toISOString() ?? ""}` : ""],
    ["Image", spec?.image ?? ""],
    ["Digest", vm.imageDigest],
    ["CPU", cpuWord(spec?.cpuMillis ?? 0)],
    ["Memory", byteWord(spec?.memBytes ?? 0n)],
    ["Disk", byteWord(spec?.diskBytes ?? 0n)],
    ["Arguments", spec && spec.args.length > 0 ? JSON.stringify(spec.args) : ""],
    ...Object.entries(spec?.env ?? {}).map(([name, value]): [string, Cell] => ["Environment", `${name}=${value}`]),
    ...Object.entries(spec?.labels ?? {}).map(([name, value]): [string, Cell] => ["Label", `${name}=${value}`]),
    ["Node", vm.nodeName || vm.nodeId],
    ["Asked", askedWord(vm.asked)],
    [
      "Service",
      vm.serviceExit ? `ended with ${[exitWord(vm.serviceExit), askedWord(vm.serviceExit.asked)].filter(Boolean).join(": ")}` : "",
    ],
    ["Health", vm.health === Health.HEALTH_UNSPECIFIED ? "" : healthCell(vm.health, colours)],
    ["Restart", restartWord(spec?.restartPolicy ?? 0)],
    ["Restarts", vm.restartCount > 0 ? String(vm.restartCount) : ""],
    ["Created", vm.createTime ? `${vm.createTime.toISOString()} (${ageWord(vm.createTime, nowMs)} ago)` : ""],
    ["Last start", timingsText(vm.timings)],
    ["Addresses", vm.addresses.join(", ")],
    ["May send", spec?.egress ? egressWords(spec.egress).join(" ") : ""],
    ["Bandwidth", spec ? bandwidthWords(spec) : ""],
    ["Host", vm.ingress?.host ?? ""],
    ["Public ports", vm.ingress?.publicPorts.join(", ") ?? ""],
    ["SSH host key", vm.sshHostKey],
  ];
  return { table: () => fieldList(fields()), json: Vm.toJSON(vm), names: [vm.name] };
}

/** A text of several lines under one name. */
function lines(name: string, text: string): [string, Cell][] {
  return text
    .trim()
    .split("\n")
    .map((line, at) => [at === 0 ? name : "", line]);
}

/** `pull 1.20 s, boot 950 ms` */
function timingsText(timings: VmTimings | undefined): string {
  const steps = ["place", "pull", "convert", "prepare", "boot", "ready"] as const;
  return steps
    .flatMap((step) => {
      const took = timings?.[step];
      return took ? [`${step} ${durationWord(Number(took.seconds) * 1000 + took.nanos / 1e6)}`] : [];
    })
    .join(", ");
}
