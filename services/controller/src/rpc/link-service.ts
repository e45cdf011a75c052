// LinkService: one session of one node, from its hello to its end.
import type { ConnectRequest, ConnectResponse, LinkServiceImplementation } from "@pitwall/proto/pitwall/v1/link.ts";
import { PitwallError, sleepOrAbort, toDuration, type Log } from "@pitwall/runtime";
import type { Nodes } from "../nodes/nodes.ts";
import type { Session, Sessions } from "../nodes/sessions.ts";
import type { Vms } from "../vm/vms.ts";
import { memberIn, type CallerContext } from "./identity.ts";

const repeatMs = 10_000;
const heartbeatsPerWrite = 15;

export interface LinkParts {
  readonly vms: Vms;
  readonly nodes: Nodes;
  readonly sessions: Sessions;
  readonly heartbeatMs: number;
  readonly leaseMs: number;
  readonly log: Log;
}

export function linkService(parts: LinkParts): LinkServiceImplementation<CallerContext> {
  const { nodes, sessions, log } = parts;
  return {
    async *connect(requests, context): AsyncGenerator<ConnectResponse> {
      const { id: nodeId } = memberIn(context);
      const messages = requests[Symbol.asyncIterator]();
      const first = await messages.next();
      const hello = first.done === true ? undefined : first.value.message;
      if (hello?.$case !== "hello") throw new PitwallError("invalid", "the first message must be a hello", { field: "message" });
      const session = await nodes.begin(nodeId, hello.value);
      log.info("a node linked", { node: nodeId, session: session.epoch, vms: hello.value.inventory?.vms.length ?? 0 });
      const listening = listen(session, messages, parts);
      const stop = new AbortController();
      context.signal.addEventListener("abort", () => session.outbox.close(), { once: true });
      try {
        const { heartbeatMs, leaseMs } = parts;
        yield welcome(session, heartbeatMs, leaseMs);
        const inventory = hello.value.inventory ?? { vms: [], complete: false };
        await parts.vms.takeInventory(session, inventory);
        yield { message: { $case: "assignments", value: { assignments: await parts.vms.assignments(nodeId, inventory), complete: true } } };
        void watchLease(session, leaseMs, stop.signal, log);
        void repeatPending(session, parts, stop.signal);
        yield* session.outbox;
      } finally {
        stop.abort();
        sessions.end(session);
        await messages.return?.();
        await listening;
        log.info("a node's link ended", { node: nodeId, session: session.epoch });
      }
    },
  };
}

function welcome(session: Session, heartbeatMs: number, leaseMs: number): ConnectResponse {
  const value = {
    nodeId: session.nodeId,
    sessionEpoch: session.epoch,
    heartbeatInterval: toDuration(heartbeatMs),
    leaseTtl: toDuration(leaseMs),
  };
  return { message: { $case: "welcome", value } };
}

/** Takes what the node says, one message after the other; the end of its stream ends the session. */
async function listen(session: Session, messages: AsyncIterator<ConnectRequest>, { vms, nodes, log }: LinkParts): Promise<void> {
  let beats = 0;
  try {
    for (let next = await messages.next(); next.done !== true; next = await messages.next()) {
      const { message } = next.value;
      switch (message?.$case) {
        case "heartbeat":
          session.lastHeartbeat = new Date();
          session.outbox.push({ message: { $case: "heartbeatAck", value: { sequence: message.value.sequence } } });
          if (++beats % heartbeatsPerWrite === 0) await nodes.keepHeartbeat(session);
          break;
        case "report":
          await vms.report(session, message.value);
          break;
        case "inventory":
          await vms.takeInventory(session, message.value);
          break;
        case "tunnelRefusal":
          log.warn("a node could not reach a gateway", { node: session.nodeId, vm: message.value.vmId, reason: message.value.reason });
          break;
        case "imageAnswer":
          session.questions.answer(message.value);
          break;
        case "goodbye":
          log.info("a node says goodbye", { node: session.nodeId, reason: message.value.reason });
          break;
        case "hello":
        case undefined:
          break;
      }
    }
  } catch (error) {
    log.debug("a node's stream broke", { node: session.nodeId, error });
  } finally {
    session.outbox.close();
  }
}

async function watchLease(session: Session, leaseMs: number, signal: AbortSignal, log: Log): Promise<void> {
  while (!signal.aborted) {
    await sleepOrAbort(leaseMs / 4, signal);
    if (Date.now() - session.lastHeartbeat.getTime() <= leaseMs || signal.aborted) continue;
    log.warn("a node is silent", { node: session.nodeId });
    session.outbox.close();
    return;
  }
}

/** Level-triggered: a message that was lost or dropped is said again. */
async function repeatPending({ nodeId, outbox }: Session, { vms, log }: LinkParts, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    await sleepOrAbort(repeatMs, signal);
    if (signal.aborted) return;
    try {
      const assignments = await vms.pending(nodeId);
      if (assignments.length > 0) outbox.push({ message: { $case: "assignments", value: { assignments, complete: false } } });
    } catch (error) {
      log.warn("what a node should do could not be read", { node: nodeId, error });
    }
  }
}
