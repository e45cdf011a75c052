// The first process of a gateway with several: starts the workers, which serve, and starts those again that die.
//
// State: which worker has which ways into VMs open, to tell the controllers when it dies with them.
import cluster, { type Worker } from "node:cluster";
import type { Identity } from "@pitwall/enroll";
import { backoff, messageChain, PitwallError, sleepOrAbort, systemClock, type Log } from "@pitwall/runtime";
import { AggregatorRegistry } from "prom-client";
import type { SessionEnds } from "../tunnels/session-ends.ts";
import type { FromWorker, Membership, Ready, ToWorker } from "./messages.ts";

const firstRetryMs = 100;
const maxRetryMs = 5_000;
/** One that served for so long did not die of its start. */
const steadyMs = 10_000;

export interface PrimaryParts {
  readonly count: number;
  /** Without it the gateway stands alone in front of a server. */
  readonly installation?: { readonly identity: Identity; readonly ends: SessionEnds };
  readonly log: Log;
}

/** Disposing it stops them, and resolves when all have ended. */
export interface Workers extends AsyncDisposable {
  /** What each said when it served for the first time. */
  readonly ready: readonly Ready[];
  /** What they have counted, together, as Prometheus reads it. */
  metrics(): Promise<string>;
}

/** Resolves when all serve. Throws when one of them cannot start; then the others have ended. */
export async function openWorkers({ count, installation, log }: PrimaryParts): Promise<Workers> {
  const living = new Set<Worker>();
  const stop = new AbortController();
  const together = new AggregatorRegistry();
  cluster.setupPrimary({ serialization: "advanced" }); // sessions have counts of 64 bits
  const say = (worker: Worker, message: ToWorker): void => {
    if (worker.isConnected()) worker.send(message, () => undefined); // one that is gone needs to know nothing
  };
  const membership = ({ id, name, tls, controllers }: Identity): Membership => ({ id, name, tls: tls(), controllers: controllers() });
  const tellMembership = (to: Iterable<Worker>): void => {
    if (installation) for (const worker of to) say(worker, { kind: "member", member: membership(installation.identity) });
  };
  installation?.identity.onRenewed(() => tellMembership(living));

  /** Resolves with what it says when it serves; undefined: it ended before that. */
  async function start(index: number): Promise<{ worker: Worker; ready: Ready | undefined }> {
    const worker = cluster.fork({ PITWALL_WORKER: String(index) });
    const sessions = new Set<string>();
    living.add(worker);
    const { promise, resolve } = Promise.withResolvers<Ready | undefined>();
    worker.on("error", (error) => log.debug("a worker cannot be told", { error }));
    worker.on("message", (message: FromWorker) => {
      switch (message.kind) {
        case "hello":
          return tellMembership([worker]);
        case "ready":
          return resolve(message.ready);
        case "learnt":
          installation?.identity.learn(message.controllers);
          return tellMembership([...living].filter((other) => other !== worker));
        case "greet":
          return void installation?.ends.started().then(
            () => say(worker, { kind: "greeted", refusal: undefined }),
            (error: unknown) => say(worker, { kind: "greeted", refusal: messageChain(error) }),
          );
        case "begun":
          return void sessions.add(message.sessionId);
        case "ended":
          sessions.delete(message.session.sessionId);
          return installation?.ends.ended(message.session);
        case "dropped":
          return void sessions.delete(message.sessionId);
        case "offence":
          for (const other of living) if (other !== worker) say(other, message);
          return undefined;
      }
    });
    worker.once("exit", () => {
      living.delete(worker);
      for (const sessionId of sessions)
        installation?.ends.ended({ sessionId, toVmBytes: 0n, fromVmBytes: 0n, duration: undefined, lost: true });
      resolve(undefined);
    });
    return { worker, ready: await promise };
  }

  /** From its first start to the gateway's end. */
  async function keep(index: number, first: Worker): Promise<void> {
    const wait = backoff(firstRetryMs, maxRetryMs);
    let worker = first;
    while (!stop.signal.aborted) {
      const since = systemClock.monotonicMs();
      await ended(worker);
      // A signal to all processes at once reaches this one a moment later.
      await sleepOrAbort(firstRetryMs, stop.signal);
      if (stop.signal.aborted) return;
      if (systemClock.monotonicMs() - since > steadyMs) wait.reset();
      log.warn("a worker ended and is started again", { worker: index, pid: worker.process.pid, code: worker.process.exitCode });
      await sleepOrAbort(wait.nextMs(), stop.signal);
      if (!stop.signal.aborted) ({ worker } = await start(index));
    }
  }

  async function end(): Promise<void> {
    stop.abort();
    const exits = [...living].map((worker) => {
      const exit = ended(worker);
      worker.process.kill("SIGTERM");
      return exit;
    });
    await Promise.all(exits);
  }

  const started = await Promise.all(Array.from({ length: count }, (_, index) => start(index)));
  if (started.some(({ ready }) => ready === undefined)) {
    await end();
    throw new PitwallError("unavailable", "a worker did not start; what it said stands above");
  }
  const kept = started.map(({ worker }, index) => keep(index, worker));
  return {
    ready: started.map(({ ready }) => ready ?? {}),
    metrics: () => together.clusterMetrics(),
    async [Symbol.asyncDispose]() {
      await end();
      await Promise.all(kept);
    },
  };
}

/** Not by `once`, which rejects when the worker cannot be told something first. */
async function ended(worker: Worker): Promise<void> {
  if (!worker.isDead()) await new Promise<void>((resolve) => worker.once("exit", () => resolve()));
}
