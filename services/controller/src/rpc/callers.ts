// Who calls, asked as soon as a call's headers are there: nothing of a body is read for whoever may not call. grpc-js has the whole of a first
// message in memory before any handler or middleware runs, and what comes in pieces of a byte costs it hundreds of bytes each.
import { Metadata, ServerInterceptingCall, ServerListenerBuilder, type ServerInterceptor } from "@grpc/grpc-js";
import { PitwallError, statusDetails, statusOf, type Log } from "@pitwall/runtime";
import { Status } from "nice-grpc";
import type { Principal } from "../projects/principal.ts";
import type { Admit } from "./admission.ts";
import { databaseAway } from "./database-boundary.ts";
import type { OpenCalls } from "./draining.ts";
import { policyOf } from "./policy.ts";

/** Set by {@link callerInterceptor} and taken away from whoever sends it: by which {@link Callers} know a call's. */
export const callerKey = "pitwall-caller-internal";
/** Of methods that anyone may call: health, and a node's request for a certificate. */
const anyonesMessageBytes = 16 * 1024;

/** Those who have been let in and whose handlers have not begun. */
export class Callers {
  readonly #waiting = new Map<string, Principal>();
  #last = 0;

  get size(): number {
    return this.#waiting.size;
  }

  put(principal: Principal): string {
    const id = String(++this.#last);
    this.#waiting.set(id, principal);
    return id;
  }

  /** Once. */
  take(id: string | undefined): Principal | undefined {
    const found = this.#waiting.get(id ?? "");
    this.#waiting.delete(id ?? "");
    return found;
  }
}

export interface CallerParts {
  readonly admit: Admit;
  readonly callers: Callers;
  readonly open: OpenCalls;
  readonly log: Log;
}

export function callerInterceptor({ admit, callers, open, log }: CallerParts): ServerInterceptor {
  return ({ path }, call) => {
    let id: string | undefined;
    let isOver = false;
    const end = (): void => {
      isOver = true;
      callers.take(id); // its handler may never have begun
      open.over(refuse);
    };
    const refuse = (error: unknown): void => {
      if (!isOver) outer.sendStatus(refusalOf(error, path, log));
    };
    const outer = new ServerInterceptingCall(call, {
      start(next) {
        if (policyOf(path)?.who === "anyone") limitMessages(call, anyonesMessageBytes);
        const listener = new ServerListenerBuilder()
          .withOnReceiveMetadata((metadata: Metadata, pass) => {
            metadata.remove(callerKey);
            admit(path, metadata.get("authorization").map(String).at(0)).then((user) => {
              if (isOver) return;
              if (user) metadata.set(callerKey, (id = callers.put(user)));
              pass(metadata);
            }, refuse);
          })
          .withOnCancel(end)
          .build();
        next(listener);
        open.begun(refuse);
      },
      // What a handler has still to say of a call that was refused, nobody hears.
      sendMetadata(metadata, next) {
        if (!isOver) next(metadata);
      },
      sendMessage(message, next) {
        if (!isOver) next(message);
      },
      sendStatus(status, next) {
        if (isOver) return;
        end();
        next(status);
      },
    });
    return outer;
  };
}

/** As the boundaries of handlers have it. */
function refusalOf(error: unknown, path: string, log: Log): { code: Status; details: string; metadata: Metadata } {
  const refusal = databaseAway(error) ?? error;
  const metadata = new Metadata();
  if (!(refusal instanceof PitwallError)) {
    log.error("rpc failed", { path, error });
    return { code: Status.INTERNAL, details: "internal error", metadata };
  }
  metadata.set("grpc-status-details-bin", Buffer.from(statusDetails(refusal)));
  return { code: statusOf[refusal.fault], details: refusal.message, metadata };
}

/**
 * grpc-js has one limit for all methods of a server. Its calls read with a decoder of their own, which its types do not show;
 * tests/headers-first.test.ts fails when it goes.
 */
function limitMessages(call: unknown, bytes: number): void {
  const { decoder } = call as { decoder?: { maxReadMessageLength?: number } };
  if (typeof decoder?.maxReadMessageLength !== "number") throw new Error("grpc-js reads messages in another way than before");
  decoder.maxReadMessageLength = bytes;
}
