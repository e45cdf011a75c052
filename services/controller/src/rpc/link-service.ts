// LinkService: one session of one node, from its hello to its end.
import { checkLabels } from "@pitwall/enroll";
import { Assignment, type ConnectRequest, type ConnectResponse, type LinkServiceImplementation } from "@pitwall/proto/pitwall/v1/link.ts";
import { inParts, partOf, PitwallError, sleepOrAbort, toDuration, type Clock, type Failpoints, type Log } from "@pitwall/runtime";
import type { HeldImages } from "../nodes/held-images.ts";
import type { Leases } from "../nodes/leases.ts";
import type { Nodes } from "../nodes/nodes.ts";
import type { ControllerAddress } from "../nodes/roster.ts";
import type { Session, Sessions } from "../nodes/sessions.ts";
import type { Assignments } from "../vm/assignments.ts";
import type { Reports } from "../vm/reports.ts";
import { memberIn, type CallerContext } from "./identity.ts";
import { Backlog, bounded, boundedInventory, FirstInventory, Pace, type BacklogOptions } from "./link-bounds.ts";

/** Of a list of assignments, in one message. */
const partBytes = 512 * 1024;
/** docs/link.md: nodes that take lists in parts. */
const partsCapability = 4;

export interface LinkParts {
  readonly reports: Reports;
  readonly assignments: Assignments;
  readonly nodes: Nodes;
  readonly sessions: Sessions;
  readonly leases: Leases;
  readonly heldImages: Pick<HeldImages, "take">;
  /** All that are there, this one first. */
  readonly controllers: () => Promise<readonly ControllerAddress[]>;
  /** How many bytes have come from a peer so far, if that can be known. */
  readonly receivedFrom?: (peer: string) => (() => number) | undefined;
  readonly heartbeatMs: number;
  readonly leaseMs: number;
  /** `ssh-ed25519 AAAA…` of those that sign users' certificates. */
  readonly sshUserAuthorities: readonly string[];
  readonly failpoints: Failpoints;
  readonly log: Log;
  readonly clock?: Clock;
}

export function linkService(parts: LinkParts): LinkServiceImplementation<CallerContext> {
  const { nodes, sessions, leases, failpoints, log } = parts;
  return {
    async *connect(requests, context): AsyncGenerator<ConnectResponse> {
      const { id: nodeId } = memberIn(context);
      const messages = requests[Symbol.asyncIterator]();
      const first = await messages.next();
      const hello = first.done === true ? undefined : first.value.message;
      if (hello?.$case !== "hello") throw new PitwallError("invalid", "the first message must be a hello", { field: "message" });
      checkLabels("labels", hello.value.labels);
      const inventory = new FirstInventory(hello.value.inventory);
      const { session, saysOtherLabels } = await nodes.begin(nodeId, hello.value);
      if (saysOtherLabels) log.warn("a node says other labels than its join token gave it, which count", { node: nodeId });
      leases.begin(session, parts.receivedFrom?.(context.peer));
      log.info("a node linked", { node: nodeId, session: session.epoch, vms: hello.value.inventory?.vms.length ?? 0 });
      const stop = new AbortController();
      const [taken, alive] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
      void listen({ session, inventory, messages, taken: taken.promise, onAlive: alive.resolve, signal: stop.signal }, parts);
      context.signal.addEventListener("abort", () => session.outbox.close(), { once: true });
      try {
        await failpoints.at("lease.session.begun", nodeId);
        yield await welcome(session, parts);
        void alive.promise
          .then(() => answer(session, inventory, taken.resolve, parts))
          .catch((error: unknown) => session.outbox.fail(error));
        yield* session.outbox;
      } finally {
        stop.abort();
        taken.resolve();
        sessions.end(session);
        await leases.end(session).catch((error: unknown) => log.warn("the end of a link could not be written", { node: nodeId, error }));
        log.info("a node's link ended", { node: nodeId, session: session.epoch, reason: session.endReason });
        // Not waited for: the node's half ends with the call, which ends here.
        void messages.return?.().catch(() => undefined);
        await failpoints.at("lease.session.ended", nodeId);
      }
    },
  };
}

async function welcome(session: Session, { heartbeatMs, leaseMs, sshUserAuthorities, controllers }: LinkParts): Promise<ConnectResponse> {
  const value = {
    nodeId: session.nodeId,
    sessionEpoch: session.epoch,
    heartbeatInterval: toDuration(heartbeatMs),
    leaseTtl: toDuration(leaseMs),
    controllers: [...(await controllers())],
    sshUserAuthorities: [...sshUserAuthorities],
  };
  return { message: { $case: "welcome", value } };
}

/**
 * A hello is answered with all that its node should be, once the node has answered the welcome: a controller that stood still reads hellos of
 * nodes that have gone elsewhere since, and what such a one does not name may have come to its node there. That is work for the database:
 * heartbeats are acknowledged meanwhile.
 */
async function answer(session: Session, said: FirstInventory, onTaken: () => void, parts: LinkParts): Promise<void> {
  const inventory = await said.whole;
  await parts.reports.takeInventory(session, inventory);
  onTaken();
  const assignments = await parts.assignments.all(session.nodeId, inventory);
  await parts.failpoints.at("lease.snapshot.sent", session.nodeId);
  const bytesOf = (assignment: Assignment): number => Assignment.encode(assignment).finish().length;
  const lists = session.capability >= partsCapability ? inParts(assignments, bytesOf, partBytes) : [assignments];
  for (const [index, some] of lists.entries()) {
    const value = { assignments: some, complete: lists.length === 1, ...partOf(index, lists.length) };
    session.outbox.push({ message: { $case: "assignments", value } });
  }
  // What an incomplete inventory leaves out may have changed while nobody listened, and is said by nobody unless it is asked for.
  const told = new Set(inventory.vms.map(({ vmId }) => vmId));
  const untold = inventory.complete ? [] : assignments.filter(({ vmId }) => !told.has(vmId));
  if (untold.length > 0) session.outbox.push({ message: { $case: "assignments", value: { assignments: untold, complete: false } } });
}

interface Listening {
  readonly session: Session;
  readonly inventory: FirstInventory;
  readonly messages: AsyncIterator<ConnectRequest>;
  /** The hello's inventory, which is older than all that follows it. */
  readonly taken: Promise<void>;
  /** Called with each heartbeat: the node sends the first one when it hears the welcome. */
  readonly onAlive: () => void;
  readonly signal: AbortSignal;
}

/**
 * Takes what the node says. What it says of VMs is work for the database, and waits for what came before it: heartbeats do not wait for that.
 * The end of its stream ends the session.
 */
async function listen({ session, inventory, messages, taken, onAlive, signal }: Listening, parts: LinkParts): Promise<void> {
  const { reports, leases, log } = parts;
  const pace = new Pace(parts.clock);
  const onFailure = (error: unknown): void => {
    log.debug("a node's stream broke", { node: session.nodeId, error });
    session.outbox.close();
  };
  const take: BacklogOptions["take"] = (some, onTaken) => reports.takeAll(session, some, onTaken);
  const backlog = new Backlog({ ready: taken, take, onFailure, signal, clock: parts.clock });
  let isAlive = false;
  try {
    for (let next = await messages.next(); next.done !== true && !signal.aborted; next = await messages.next()) {
      const { message } = next.value;
      switch (message?.$case) {
        case "heartbeat":
          isAlive = true;
          onAlive();
          leases.heard(session, message.value.sequence);
          break;
        case "report":
          await backlog.add(bounded(message.value));
          continue; // at the backlog's pace
        case "inventory":
          if (inventory.takes(message.value)) break;
          await backlog.done(); // it is newer
          await taken;
          if (session.outbox.isOpen) await reports.takeInventory(session, boundedInventory(message.value));
          break;
        case "tunnelRefusal":
          log.warn("a node could not reach a gateway", { node: session.nodeId, vm: message.value.vmId, reason: message.value.reason });
          break;
        case "heldImages":
          parts.heldImages.take(session, message.value.digests);
          break;
        case "imageAnswer":
          session.questions.answer(message.value);
          break;
        case "networkAnswer":
          session.networkQuestions.answer(message.value);
          break;
        case "goodbye":
          log.info("a node says goodbye", { node: session.nodeId, reason: message.value.reason });
          session.endReason = "goodbye";
          break;
        case "hello":
        case undefined:
          break;
      }
      const waitMs = pace.take();
      if (waitMs > 0) await sleepOrAbort(waitMs, signal, parts.clock);
    }
    if (isAlive) await backlog.done(); // what it said before its end counts
    session.outbox.close();
  } catch (error) {
    onFailure(error);
  }
}
