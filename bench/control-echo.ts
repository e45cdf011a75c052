// The bare peer: a grpc-js server with mutual TLS and one bidirectional stream for each client, which does nothing but echo.
import { fork, type ChildProcess } from "node:child_process";
import { join } from "node:path";
import type { TlsIdentity } from "@pitwall/enroll";
import { z } from "zod";

const ready = z.object({ ready: z.literal(true), port: z.number().optional() });
const round = z.object({ messages: z.number(), ms: z.number() });
const memory = z.object({ rssBytes: z.number(), heapBytes: z.number(), streams: z.number() });

export interface EchoMessages {
  /** Sizes in bytes. */
  readonly command: number;
  readonly answer: number;
}

/** Disposing it ends the server and all clients. */
export interface EchoPeer extends AsyncDisposable {
  /** Connects so many clients more. Resolves when all of them have their stream. */
  connect(count: number): Promise<void>;
  /** Sends each client a message, waits for all answers, and again until the time is over. */
  run(forMs: number): Promise<z.output<typeof round>>;
  /** Of the server, after a garbage collection. */
  memory(): Promise<z.output<typeof memory>>;
}

export async function startEcho(identity: TlsIdentity, server: { key: string; chain: string }, sizes: EchoMessages): Promise<EchoPeer> {
  await using parts = new AsyncDisposableStack();
  const serving = start("control-echo-server.ts", { ...server, ca: identity.ca, ...sizes });
  parts.defer(() => end(serving));
  const { port } = ready.parse(await answer(serving));
  const kept = parts.move();
  return {
    async connect(count) {
      const clients = start("control-echo-clients.ts", { ...identity, port, count, ...sizes });
      kept.defer(() => end(clients));
      ready.parse(await answer(clients));
    },
    async run(forMs) {
      serving.send({ run: forMs });
      return round.parse(await answer(serving));
    },
    async memory() {
      serving.send({ memory: true });
      return memory.parse(await answer(serving));
    },
    [Symbol.asyncDispose]: () => kept.disposeAsync(),
  };
}

function start(file: string, setup: object): ChildProcess {
  const child = fork(join(import.meta.dirname, file), { execArgv: ["--disable-warning=DEP0123", "--expose-gc"] });
  child.send(setup);
  return child;
}

async function answer(child: ChildProcess): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const onExit = (): void => reject(new Error("the bare peer ended"));
    child.once("exit", onExit);
    child.once("message", (message) => {
      child.off("exit", onExit);
      resolve(message);
    });
  });
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = new Promise((resolve) => child.once("exit", resolve));
  child.kill("SIGKILL");
  await ended;
}
