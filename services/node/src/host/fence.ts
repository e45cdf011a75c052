// The agent's side of the fence (guest/powerunit/fence): a process of its own that ends VMs when the agent no longer can.
//
//   connected -> lost (it was killed) -> started again -> told everything again -> connected
//
// One per state folder: it works in a folder of its own, by which an agent that has started again finds it.
import { mkdir } from "node:fs/promises";
import { connect, type Socket } from "node:net";
import { createInterface } from "node:readline";
import {
  backoff,
  PitwallError,
  planted,
  processesIn,
  timeLimit,
  type Clock,
  type Failpoints,
  type Log,
  type Random,
} from "@pitwall/runtime";
import { z } from "zod";
import type { AgentFence } from "../agent.ts";
import type { Guarded } from "../machine/host.ts";
import { spawnDetached, untilListening } from "./spawn-detached.ts";

const startLimitMs = 10_000;
const answerLimitMs = 5_000;
const protocol = 1;

const reply = z.object({ id: z.number(), protocol: z.literal(protocol), deadline_ms: z.number(), error: z.string().optional() });
type Reply = z.output<typeof reply>;

export interface FenceOptions {
  /** The program's absolute path. */
  readonly program: string;
  /** The fence's own folder. */
  readonly dir: string;
  readonly clock: Clock;
  readonly random: Random;
  readonly failpoints: Failpoints;
  readonly log: Log;
}

/** Connects to the fence that runs, or starts one. Disposing it lets go; the fence goes on. Throws `unavailable` when it does not start. */
export async function openFence(options: FenceOptions): Promise<AgentFence & Disposable> {
  const { dir, clock, failpoints, log } = options;
  await mkdir(dir, { recursive: true, mode: 0o700 });
  const guarded = new Map<string, Guarded>();
  const wait = backoff(50, 2_000, options.random);
  let line = await openLine(options);
  let deadlineMs = (await line.ask({ op: "hello" })).deadline_ms;
  let isClosed = false;
  let connecting: Promise<void> = Promise.resolve();
  line.onLost(comeBack);

  function comeBack(): void {
    if (isClosed) return;
    log.warn("the fence is gone; starting it again");
    connecting = (async () => {
      while (!isClosed) {
        try {
          const next = await openLine(options);
          if (deadlineMs > 0) await next.ask(renewal());
          for (const [vmId, what] of guarded) await next.ask(targetOf(vmId, what));
          line = next;
          next.onLost(comeBack);
          wait.reset();
          return;
        } catch (error) {
          log.error("the fence could not be started", { error });
          await clock.sleep(wait.nextMs());
        }
      }
    })();
  }

  const renewal = (): object => ({ op: "renew", deadline_ms: Math.floor(deadlineMs) });

  return {
    get deadlineMs() {
      return deadlineMs;
    },
    renew(until) {
      deadlineMs = until;
      line.ask(renewal()).catch((error: unknown) => log.debug("the fence was not told of the lease", { error })); // it hears it on its return
    },
    async guard(vmId, what) {
      guarded.set(vmId, what);
      await connecting;
      await line.ask(targetOf(vmId, what));
      await failpoints.at("fence.armed", vmId);
    },
    release(vmId) {
      guarded.delete(vmId);
      line.ask({ op: "release", vm: vmId }).catch((error: unknown) => log.debug("the fence was not told of a VM's end", { error }));
    },
    [Symbol.dispose]() {
      isClosed = true;
      line.close();
    },
  };
}

function targetOf(vmId: string, { epoch, dir, process }: Guarded): object {
  const identity = process && { pid: process.pid, start_ticks: String(process.startTicks) };
  return { op: "guard", target: { vm: vmId, epoch: String(epoch), dir, ...identity } };
}

/** One connection. */
interface Line {
  /** Throws `unavailable` when the fence does not answer, `internal` when it refuses. */
  ask(request: object): Promise<Reply>;
  /** Called once, also when that was before. */
  onLost(listener: () => void): void;
  close(): void;
}

async function openLine({ program, dir, clock }: FenceOptions): Promise<Line> {
  // A fence that dies with its agent is none: setpriv(1) would see to that.
  const [command, ...args] = planted("fence-with-agent") ? ["setpriv", "--pdeathsig", "KILL", program] : [program];
  const [running = (await spawnDetached(command, args, dir, "fence.out")).identity] = processesIn(dir);
  if (!running) throw unavailable();
  const path = `/proc/${running.pid}/cwd/fence.sock`; // short, whatever the state folder is called
  await untilListening(running, path, startLimitMs);
  const socket: Socket = connect(path);
  const waiting = new Map<number, PromiseWithResolvers<Reply>>();
  const lost = Promise.withResolvers<void>();
  socket
    .on("error", () => undefined)
    .once("close", () => {
      for (const { reject } of waiting.values()) reject(unavailable());
      lost.resolve();
    });
  createInterface({ input: socket })
    .on("error", () => undefined) // the socket's, said once more: that of a fence that was killed with something unread
    .on("line", (text) => {
      try {
        const answer = reply.parse(JSON.parse(text));
        waiting.get(answer.id)?.resolve(answer);
      } catch {
        socket.destroy(); // it speaks another protocol
      }
    });
  let lastId = 0;
  return {
    async ask(request) {
      if (socket.destroyed) throw unavailable();
      const id = ++lastId;
      const answer = Promise.withResolvers<Reply>();
      waiting.set(id, answer);
      using limit = timeLimit(clock, answerLimitMs);
      limit.signal.addEventListener("abort", () => answer.reject(unavailable()), { once: true });
      try {
        socket.write(`${JSON.stringify({ id, ...request })}\n`);
        const said = await answer.promise;
        if (said.error !== undefined) throw new PitwallError("internal", `the fence refused: ${said.error}`);
        return said;
      } finally {
        waiting.delete(id);
      }
    },
    onLost: (listener) => void lost.promise.then(listener),
    close: () => socket.destroy(),
  };
}

function unavailable(): PitwallError {
  return new PitwallError("unavailable", "this node's fence does not answer, so no VM that may be started elsewhere can run here", {
    reason: "FENCE_UNAVAILABLE",
  });
}
