// Commands to all nodes over their links, each answered, against a bare server that sends the same bytes and gets the same bytes back.
import { randomUUID } from "node:crypto";
import { join } from "node:path";
import type { Ca } from "@pitwall/controller/src/ca/ca.ts";
import type { Controller, Installation } from "@pitwall/controller/tests/support/installation.ts";
import { ConnectRequest, ConnectResponse } from "@pitwall/proto/pitwall/v1/link.ts";
import { startChild } from "./control-child.ts";
import type { EchoMessages, EchoPeer } from "./control-echo.ts";
import { enrollNodes } from "./control-identities.ts";
import { median, percentile, round, type BenchOptions, type Metric } from "./measure.ts";

const goal = 0.8;
const name = "lean";

const requestId = randomUUID();
const command = ConnectResponse.encode({
  message: { $case: "imageCommand", value: { requestId, command: { $case: "inventory", value: {} } } },
});
const answer = ConnectRequest.encode({
  message: { $case: "imageAnswer", value: { requestId, reason: "", message: "", inventory: { images: [] }, freed: undefined } },
});

/** Of the command that all nodes are sent, and of a simulated node's answer. */
export const messageSizes: EchoMessages = { command: command.finish().length, answer: answer.finish().length };

export async function measureFanout(
  installation: Installation,
  ca: Ca,
  { admin, api, link }: Controller,
  echo: EchoPeer,
  nodes: number,
  { quick, say }: BenchOptions,
): Promise<Metric> {
  const stateDir = join(installation.dir, name);
  await enrollNodes(installation, ca, { api, link }, { stateDir, name, count: nodes });
  await using lean = startChild("control-lean-nodes.ts");
  await lean.ask({ stateDir, name, count: nodes, link });
  const [rounds, forMs] = quick ? [2, 1_000] : [5, 5_000];
  /** Asks all nodes what images they hold, again and again; commands a second. */
  const ours = async (): Promise<number> => {
    const begun = performance.now();
    let count = 0;
    for (; performance.now() - begun < forMs; count += nodes) {
      const { skippedNodes } = await admin.images.listImages({});
      const silent = skippedNodes.filter((node) => node.startsWith(`${name}-`)); // others are of stages that are over
      if (silent.length > 0) throw new Error(`${silent.length} nodes did not answer`);
    }
    return (count / (performance.now() - begun)) * 1000;
  };
  const bare = async (): Promise<number> => {
    const { messages, ms } = await echo.run(forMs);
    return (messages / ms) * 1000;
  };
  const [commands, echoes]: [number[], number[]] = [[], []];
  await Promise.all([admin.images.listImages({}), echo.run(1)]); // warm
  for (let at = 0; at < rounds; at++) {
    commands.push(await ours());
    echoes.push(await bare());
  }
  const ratios = commands.map((perSecond, at) => perSecond / (echoes[at] ?? NaN));
  const value = round(median(ratios));
  const raw = { commands_per_second: Math.round(median(commands)), echoes_per_second: Math.round(median(echoes)), nodes };
  say(`${raw.commands_per_second} commands/s, a bare echo server ${raw.echoes_per_second}/s`);
  return { value, p95: round(percentile(ratios, 0.95)), unit: "ratio", goal, ok: value >= goal, n: rounds, raw };
}
