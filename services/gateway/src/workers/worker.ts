// A worker's side: what is one for the whole gateway is asked of its first process.
import cluster from "node:cluster";
import { once } from "node:events";
import type { Identity } from "@pitwall/enroll";
import type { EndedSession } from "@pitwall/proto/pitwall/v1/access.ts";
import { PitwallError } from "@pitwall/runtime";
import { AggregatorRegistry, collectDefaultMetrics, type Registry } from "prom-client";
import { countSessions, type SessionEnds } from "../tunnels/session-ends.ts";
import type { FromWorker, Membership, Offences, Ready, ToWorker } from "./messages.ts";

export interface FirstProcess {
  /** Its own `learn` reaches the other workers too. Renewals are the first process's. */
  identity(): Promise<Identity>;
  readonly ends: SessionEnds;
  readonly offences: Offences;
  /** Whose metrics are among those that the first process shows. */
  show(registry: Registry): void;
  ready(said: Ready): void;
  /** What was told has arrived; from now on this process may end by itself. */
  farewell(): Promise<void>;
}

export function openFirstProcess(): FirstProcess {
  const say = (message: FromWorker): void => void process.send?.(message);
  const hear = (listener: (message: ToWorker) => void): void => void process.on("message", (message: ToWorker) => listener(message)); // nobody else sends
  const ended = (session: EndedSession): void => say({ kind: "ended", session });
  const counted = countSessions(ended, (sessionId) => say({ kind: "dropped", sessionId }));
  let started: Promise<void> | undefined;

  /** Answered once; a refusal is asked about again. */
  const greet = async (): Promise<void> => {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const listener = (message: ToWorker): void => {
      if (message.kind !== "greeted") return;
      process.off("message", listener);
      if (message.refusal === undefined) return resolve();
      started = undefined;
      reject(new PitwallError("unavailable", message.refusal, { reason: "CONTROLLER_UNREACHABLE" }));
    };
    process.on("message", listener);
    say({ kind: "greet" });
    return promise;
  };

  return {
    async identity() {
      const listeners: (() => void)[] = [];
      const { promise: first, resolve } = Promise.withResolvers<Membership>();
      let latest: Membership | undefined;
      hear((message) => {
        if (message.kind !== "member") return;
        const isRenewed = latest !== undefined && latest.tls.cert !== message.member.tls.cert;
        latest = message.member;
        resolve(latest);
        if (isRenewed) for (const listener of listeners) listener();
      });
      say({ kind: "hello" });
      const begun = await first;
      const now = (): Membership => latest ?? begun;
      return {
        ...{ id: begun.id, name: begun.name },
        controllers: () => now().controllers,
        tls: () => now().tls,
        learn: (controllers) => say({ kind: "learnt", controllers }),
        onRenewed: (listener) => listeners.push(listener),
        [Symbol.asyncDispose]: async () => undefined,
      };
    },
    ends: {
      started: () => (started ??= greet()),
      ended,
      begin() {
        const session = counted.begin();
        say({ kind: "begun", sessionId: session.id });
        return session;
      },
      [Symbol.asyncDispose]: () => counted.settled(),
    },
    offences: {
      tell: (of) => say({ kind: "offence", of }),
      onOther: (listener) =>
        hear((message) => {
          if (message.kind === "offence") listener(message.of);
        }),
    },
    show(registry) {
      collectDefaultMetrics({ register: registry });
      AggregatorRegistry.setRegistries([registry]);
      new AggregatorRegistry();
    },
    ready: (said) => say({ kind: "ready", ready: said }),
    async farewell() {
      const gone = once(process, "disconnect");
      cluster.worker?.disconnect();
      await gone;
    },
  };
}
