// pitwall nodes: the hosts that run VMs.
import type { Command } from "commander";
import { Node, NodeState } from "@pitwall/sdk";
import { inSession, withEndpoint, type EndpointOption, type Session } from "../account/session.ts";
import { openColours, type Colours } from "../output/colours.ts";
import { show, withOutput, type Format, type View } from "../output/format.ts";
import { LiveList } from "../output/live.ts";
import { fieldList, table, type Cell } from "../output/table.ts";
import { ageWord, byteWord, cpuWord, nodeStateWord } from "../output/words.ts";
import type { Shell } from "../shell.ts";
import { declareChanges } from "./node-changes.ts";

type Options = EndpointOption & { readonly output: Format; readonly watch?: boolean };

export function declare(command: Command, shell: Shell): void {
  watched(withOutput(withEndpoint(command.description("Lists the nodes.")))).action(async (options: Options) => list(shell, options));
  watched(withOutput(withEndpoint(command.command("ls").description("Lists the nodes.")))).action(async (options: Options) =>
    list(shell, options),
  );
  withOutput(withEndpoint(command.command("get").argument("<node>", "name or id").description("Shows everything about a node."))).action(
    async (name: string, options: Options) =>
      inSession(shell, options, async ({ pitwall }) => {
        const node = await pitwall.getNode(name);
        await show(shell, options.output, {
          table: () => fieldList(details(node, openColours(shell.hasColour), shell.wallMs())),
          json: Node.toJSON(node),
          names: [node.name],
        });
      }),
  );
  declareChanges(command, shell);
}

function watched(command: Command): Command {
  return command.option("-w, --watch", "go on with what changes, until Ctrl-C: drawn anew on a terminal, else a line each");
}

async function list(shell: Shell, options: Options): Promise<void> {
  await inSession(shell, options, async ({ pitwall }) => {
    if (options.watch) return follow(shell, pitwall, options.output);
    await show(shell, options.output, nodeTable(shell, await pitwall.listNodes()));
  });
}

/** Until Ctrl-C. */
async function follow(shell: Shell, pitwall: Session["pitwall"], format: Format): Promise<void> {
  const live = new LiveList<Node>({
    ...{ shell, format, idOf: ({ id }) => id },
    view: (nodes) => nodeTable(shell, nodes),
    goneJson: (json) => ({ removed: json }),
  });
  let drawing = Promise.resolve();
  const onSynced = (): void => void (drawing = live.synced());
  for await (const { node, removed } of pitwall.watchNodes({ onSynced, signal: shell.signals.signal })) {
    await drawing;
    await live.change(node, { isGone: removed });
  }
}

function nodeTable(shell: Shell, nodes: readonly Node[]): View {
  const colours = openColours(shell.hasColour);
  return {
    table: () =>
      table(
        ["NAME", "STATE", "VMS", "CPU", "MEMORY", "DISK", "DRIVER", "AGE"],
        nodes.map((node) => row(node, colours, shell.wallMs())),
      ),
    json: nodes.map((node) => Node.toJSON(node)),
    names: nodes.map(({ name }) => name),
  };
}

function row(node: Node, colours: Colours, nowMs: number): Cell[] {
  const { cpu, memory, disk } = room(node);
  return [
    node.name,
    state(node, colours),
    String(node.vmCount),
    cpu,
    memory,
    disk,
    drivers(node),
    labels(node).join(","),
    ageWord(node.createTime, nowMs),
  ];
}

function details(node: Node, colours: Colours, nowMs: number): [string, Cell][] {
  const { cpu, memory, disk } = room(node);
  return [
    ["Name", node.name],
    ["Id", node.id],
    ["State", state(node, colours)],
    ["Placement", node.draining ? "draining" : node.cordoned ? "cordoned" : "open"],
    ["Last heard of", node.lastHeartbeatTime ? `${ageWord(node.lastHeartbeatTime, nowMs)} ago` : ""],
    ["VMs", String(node.vmCount)],
    ["CPU", `${cpu} given out`],
    ["Memory", `${memory} given out`],
    ["Disk", `${disk} given out`],
    ["Driver", drivers(node)],
    ...labels(node).map((label): [string, Cell] => ["Label", label]),
    ["Agent", node.agentVersion],
    ["Joined", node.createTime?.toISOString() ?? ""],
  ];
}

function state({ state: value, cordoned, draining, revoked }: Node, { green, red }: Colours): Cell {
  const marks = revoked ? ", revoked" : draining ? ", draining" : cordoned ? ", cordoned" : "";
  return { text: `${nodeStateWord(value)}${marks}`, paint: value === NodeState.NODE_STATE_READY ? green : red };
}

/** What VMs have been given, of what there is. */
function room({ allocated, capacity }: Node): { cpu: string; memory: string; disk: string } {
  const of = (word: (amount: bigint) => string, pick: "cpuMillis" | "memBytes" | "diskBytes"): string =>
    `${word(allocated?.[pick] ?? 0n)}/${word(capacity?.[pick] ?? 0n)}`;
  return { cpu: of(cpuWord, "cpuMillis"), memory: of(byteWord, "memBytes"), disk: of(byteWord, "diskBytes") };
}

function labels(node: Node): string[] {
  return Object.entries(node.labels)
    .map(([key, value]) => `${key}=${value}`)
    .toSorted();
}

function drivers({ drivers: all }: Node): string {
  return all.map(({ name, version, acceleration }) => `${name} ${version} (${acceleration})`).join(", ");
}
