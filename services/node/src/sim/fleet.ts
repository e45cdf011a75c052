// Simulated nodes that join a real controller, each with an identity of its own, all in this process.
import { createWriteStream } from "node:fs";
import { mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { finished } from "node:stream/promises";
import { openIdentity } from "@pitwall/enroll";
import type { Resources } from "@pitwall/proto/pitwall/v1/node.ts";
import { noFailpoints, PitwallError, seededRandom, systemClock, type Clock, type Log } from "@pitwall/runtime";
import { labelsOf, type LabelChoices } from "../labels.ts";
import { grpcDial } from "../link/dial.ts";
import { openTunnels } from "../tunnels/tunnel.ts";
import { SimNode } from "./node.ts";
import { parseScript, plainScript, type Script } from "./script.ts";
import { lineTrace, noTrace, type Trace } from "./trace.ts";

/** Handshakes are work: more at once would only make each slower, until they run out of time. */
const joiningAtOnce = 16;
const linkLimitMs = 30_000;

export interface FleetOptions {
  readonly stateDir: string;
  /** Nodes are NAME-1, NAME-2, … */
  readonly name: string;
  readonly count: number;
  readonly seed: string;
  /** A file, or undefined: nothing goes wrong. */
  readonly script: string | undefined;
  /** A file that events are written to. */
  readonly trace: string | undefined;
  /** Good for all that have not joined yet. */
  readonly join: string | undefined;
  readonly capacity: Resources;
  readonly labels: LabelChoices;
  readonly bootLimitMs: number;
  readonly log: Log;
}

/** Resolves when every node has a link, or has tried for 30 s; then it goes on trying. */
export async function startFleet(options: FleetOptions): Promise<AsyncDisposable> {
  const { stateDir, name, count, seed, capacity, labels, bootLimitMs, log } = options;
  await using stack = new AsyncDisposableStack();
  const script = await readScript(options.script);
  // Everything is in this process, so no other one must share the readings of its clock.
  const clock: Clock = { ...systemClock, bootMs: () => systemClock.monotonicMs() };
  const trace = openTrace(options.trace, clock, stack);
  const identities = stack.use(new AsyncDisposableStack());
  const nodes: SimNode[] = [];
  stack.defer(async () => void (await Promise.all(nodes.map((node) => node[Symbol.asyncDispose]()))));

  async function add(index: number): Promise<void> {
    const nodeName = `${name}-${index}`;
    const dir = join(stateDir, "nodes", nodeName);
    await mkdir(dir, { recursive: true, mode: 0o700 });
    const identity = identities.use(await openIdentity({ dir, join: options.join, name: nodeName, serverNames: [], log }));
    const node = new SimNode({
      ...{ name: nodeName, clock, script, seed, capacity, bootLimitMs, trace, log },
      labels: labelsOf(labels, index - 1),
      dial: grpcDial(identity, seededRandom(seed, nodeName, "dial")),
      openTunnels: (machines) => openTunnels({ machines, identity, clock, failpoints: noFailpoints, log }),
    });
    nodes.push(node);
    node.start();
    await Promise.race([node.linked, new Promise<void>((resolve) => clock.after(linkLimitMs, resolve))]);
  }

  const indices = Array.from({ length: count }, (_, index) => index + 1).values();
  const work = async (): Promise<void> => {
    for (const index of indices) await add(index);
  };
  await Promise.all(Array.from({ length: joiningAtOnce }, work));
  return stack.move();
}

async function readScript(path: string | undefined): Promise<Script> {
  if (path === undefined) return plainScript;
  const text = await readFile(path, "utf8").catch((cause: unknown) => {
    throw new PitwallError("invalid", "the simulation's script cannot be read", { field: "simulate", reason: "INVALID_CONFIG", cause });
  });
  return parseScript(text);
}

function openTrace(path: string | undefined, clock: Clock, stack: AsyncDisposableStack): Trace {
  if (path === undefined) return noTrace;
  const file = createWriteStream(path, { mode: 0o600 });
  const written = finished(file);
  stack.defer(async () => {
    file.end();
    await written;
  });
  let isCorked = false;
  return lineTrace(clock, (line) => {
    // What is said in one turn is one write: each would be a call of the system.
    if (!isCorked) {
      isCorked = true;
      file.cork();
      setImmediate(() => {
        isCorked = false;
        file.uncork();
      });
    }
    file.write(line);
  });
}
