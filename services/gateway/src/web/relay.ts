// One call from its client to its upstream and back. Frames are copied and never looked into.
//
// waiting (nothing came from the upstream) -> begun (headers went out) -> over (trailers went out, or the client has gone).
// What comes first makes it over: the upstream's trailers, its reset, the loss of its connection, the deadline, the client's going.
import { randomUUID } from "node:crypto";
import { constants, type ClientHttp2Stream, type IncomingHttpHeaders } from "node:http2";
import type { Readable } from "node:stream";
import { PitwallError, type Log } from "@pitwall/runtime";
import { deadlineTrailers, httpTrailers, resetTrailers, statusTrailers, type Trailers } from "./grpc-reply.ts";
import { grpcTimeoutMs } from "./grpc-timeout.ts";
import { callHeaders, responseHeaders, type CallHeaders } from "./headers.ts";
import { unreachable } from "./unreachable.ts";
import type { GatewayMetrics, Protocol } from "../metrics.ts";
import type { Admission } from "./admission.ts";
import type { DeadlineOf } from "./deadlines.ts";
import type { WebLimits } from "./limits.ts";
import { meterInlet } from "./inlet.ts";
import { Meter } from "./meter.ts";
import { Sent } from "./sent.ts";
import type { AllUnderway } from "./underway.ts";
import type { OpenUpstream } from "./upstreams.ts";

/** The upstream knows the deadline too, and what it says then is worth more than what we can say. */
const deadlineGraceMs = 50;
/** The status of a call whose client has gone, which it does not hear. */
const cancelled = "1";

/** The client's side of a call, whatever protocol it speaks. */
export interface CallClient {
  readonly protocol: Protocol;
  /** The address that it comes from. */
  readonly source: string | undefined;
  readonly path: string;
  readonly headers: CallHeaders;
  /** Messages, framed as gRPC frames them. It fails when they are not whole. */
  readonly body: Readable;
  /** Whether a body that has ended was broken off. */
  wasCut(): boolean;
  /** Once, first. The content type is the upstream's. */
  begin(contentType: string, headers: CallHeaders): void;
  /** False asks to wait for {@link onDrain}. */
  write(chunk: Buffer): boolean;
  /** Ends it without a word, when its words cannot be said. */
  cut(): void;
  /** Once, last; without {@link begin} before it, the reply is trailers alone. */
  finish(trailers: Trailers): void;
  onDrain(resume: () => void): void;
  /** Called when nothing more can be sent, also after {@link finish}. */
  onGone(gone: () => void): void;
}

export interface RelayParts {
  readonly open: OpenUpstream;
  readonly underway: AllUnderway;
  readonly admission: Admission;
  /** Without it the client's own counts. */
  readonly deadlineOf?: DeadlineOf | undefined;
  readonly limits: WebLimits;
  /** A call on the client's connection was refused for coming in crumbs. */
  readonly onCrumbs?: () => void;
  readonly metrics: GatewayMetrics;
  readonly log: Log;
}

/** Serves one call. Never throws: a failure is its status. */
export async function relay(
  client: CallClient,
  { open, underway, admission, deadlineOf, limits, onCrumbs, metrics, log }: RelayParts,
): Promise<void> {
  const { path, body } = client;
  const { timeoutMs, headers } = withDeadline(client, deadlineOf);
  const counted = metrics.begin(client.protocol, path);
  const isLate = hasPassed(timeoutMs);
  let call: ClientHttp2Stream | undefined;
  let begunAtMs: number | undefined;
  let isOver = false;

  const leave = (): void => {
    isOver = true;
    clearTimeout(timer);
    clearTimeout(late);
    counted.ended(cancelled);
    leaveAdmission?.();
    if (call && !(call.readableEnded && call.writableEnded)) call.close(constants.NGHTTP2_CANCEL);
  };
  const finish = (trailers: Trailers): void => {
    if (isOver) return;
    counted.ended(String(trailers["grpc-status"]));
    leave();
    body.resume(); // what is still coming is of no use
    try {
      client.finish(trailers);
    } catch (error) {
      log.warn("an upstream's answer cannot be passed on", { path, error });
      client.cut();
    }
  };
  const fail = (error: unknown): void => {
    if (isOver) return;
    const callId = randomUUID();
    // Nobody has thought of the others: whoever runs the gateway is to see them.
    if (error instanceof PitwallError && error.fault !== "internal") log.debug("a call failed", { path, callId, error });
    else log.error("a call failed", { path, callId, error });
    finish(statusTrailers(error, callId));
  };
  const isWhole = (): boolean => body.readableEnded;
  const late =
    client.protocol === "grpc-web"
      ? setTimeout(() => {
          if (isWhole()) return;
          metrics.refuse("request_time");
          fail(new PitwallError("deadline", `the request was not whole within ${limits.requestMs} ms`, { reason: "REQUEST_TOO_SLOW" }));
        }, limits.requestMs)
      : undefined;
  const timer = timeoutMs === undefined ? undefined : setTimeout(() => finish(deadlineTrailers), timeoutMs + deadlineGraceMs);
  const leaveUnderway = underway.add({ begunAtMs: () => begunAtMs, end: () => fail(stopping()) });
  let leaveAdmission: (() => void) | undefined;
  client.onGone(() => {
    leave();
    leaveUnderway();
  });
  body.on("error", (error) => (error instanceof PitwallError ? fail(error) : undefined)); // another one means that the client goes

  const sent = new Sent();
  /** What has come while the call is being begun anew. */
  let waiting: Buffer[] | undefined;
  const answered = (): void => {
    sent.take(); // it has been taken
    begunAtMs = performance.now();
    counted.answered();
  };
  /** Opens the upstream's side; undefined when the call is over by then. */
  const openCall = async (): Promise<ClientHttp2Stream | undefined> => {
    const opened = await open(path, headers).catch((error: unknown): never => {
      throw isConnectionGone(error) ? unreachable(error) : error;
    });
    if (isOver) return void opened.on("error", () => undefined).close(constants.NGHTTP2_CANCEL);
    call = opened;
    receive(opened, client, { isOver: () => isOver, isLate, answered, finish, fail, again });
    return opened;
  };
  // A call that its client breaks off ends here like one that has said all: the guest would keep half a file for a whole one.
  const end = (): void => {
    if (waiting) return; // whoever begins it anew ends it, too
    if (client.wasCut()) call?.close(constants.NGHTTP2_CANCEL);
    else call?.end();
  };
  let heldBack: ClientHttp2Stream | undefined;
  const write = (piece: Buffer): void => {
    if (!call || call.closed || call.destroyed || call.write(piece)) return;
    body.pause();
    if (heldBack !== call) call.on("drain", () => body.resume());
    heldBack = call;
  };
  const pass = (piece: Buffer): void => {
    if (isOver) return;
    if (waiting) return void waiting.push(piece);
    sent.add(piece); // also of an upstream that is gone and not yet known to be: the call may go on elsewhere
    write(piece);
  };
  /** Elsewhere, when the upstream has taken nothing of it. False when that may not be. */
  function again(): boolean {
    const pieces = sent.take();
    if (!pieces) return false;
    metrics.repeated();
    waiting = [...pieces];
    body.pause();
    openCall()
      .then((opened) => {
        if (!opened) return;
        const all = waiting ?? [];
        waiting = undefined;
        body.resume(); // unless what follows holds it back
        all.forEach(write);
        if (isWhole()) end();
      })
      .catch(fail);
    return true;
  }

  try {
    leaveAdmission = admission.call(client.source);
    const meter = new Meter(limits, (why) => {
      metrics.refuse(why);
      if (why === "small_frames") onCrumbs?.();
    });
    const early = meterInlet(body, { meter, isOver: () => isOver, fail });
    if (!(await openCall())) return;
    // Not piped: that costs ten listeners a call.
    if (early) pass(early);
    if (isWhole()) return end(); // one of which all has come ends by itself while its upstream is being opened
    body.on("data", pass);
    body.once("end", end);
  } catch (error) {
    fail(error);
  }
}

/** The call's deadline, and its headers, which say that one. */
function withDeadline(
  { path, headers }: CallClient,
  deadlineOf: DeadlineOf | undefined,
): { timeoutMs: number | undefined; headers: CallHeaders } {
  const askedMs = grpcTimeoutMs(headers["grpc-timeout"]);
  const timeoutMs = deadlineOf ? deadlineOf(path, askedMs) : askedMs;
  return { timeoutMs, headers: timeoutMs === askedMs ? headers : { ...headers, "grpc-timeout": `${timeoutMs}m` } };
}

/** Whether so much time has passed since now. */
function hasPassed(timeoutMs: number | undefined): () => boolean {
  const begunAtMs = performance.now();
  return () => timeoutMs !== undefined && performance.now() - begunAtMs >= timeoutMs;
}

/** Whether the connection ended between its being chosen and the call. */
function isConnectionGone(error: unknown): boolean {
  return error instanceof Error && "code" in error && /^ERR_HTTP2_(INVALID|GOAWAY)_SESSION$/.test(String(error.code));
}

function stopping(): PitwallError {
  return new PitwallError("unavailable", "the gateway is stopping; call again", { reason: "GATEWAY_STOPPING" });
}

interface Receiver {
  isOver(): boolean;
  /** Whether its deadline has passed. */
  isLate(): boolean;
  answered(): void;
  finish(trailers: Trailers): void;
  fail(error: unknown): void;
  /** Begins it anew with another upstream, if that may be. */
  again(): boolean;
}

function receive(call: ClientHttp2Stream, client: CallClient, { isOver, isLate, answered, finish, fail, again }: Receiver): void {
  const { session } = call;
  let trailers: Trailers | undefined;
  let lost: Error | undefined;
  call.on("error", (error: NodeJS.ErrnoException) => {
    if (error.code !== "ERR_HTTP2_STREAM_ERROR") lost = error;
  });
  const finishWithout = (): void => {
    if (isOver()) return;
    if (lost instanceof PitwallError) fail(lost);
    // A connection that ends with this code (lost, then) has said nothing of calls that it has taken.
    else if (call.rstCode === constants.NGHTTP2_REFUSED_STREAM && !lost && again()) return;
    // Servers of gRPC reset a call so, too, whose deadline has passed.
    else if (call.rstCode === constants.NGHTTP2_CANCEL && isLate()) finish(deadlineTrailers);
    else if (lost || session?.destroyed) fail(unreachable(lost));
    else finish(resetTrailers(call.rstCode));
  };
  call.once("close", finishWithout);
  const finishAlone = (alone: Trailers): void => {
    call.resume().once("end", () => finish(alone)); // read to its end, it is done and needs no reset
  };
  call.once("response", (parsed: IncomingHttpHeaders, flags: number, raw?: readonly string[]) => {
    answered();
    const headers = callHeaders(parsed, raw);
    const contentType = parsed["content-type"] ?? "";
    const hasStatus = parsed["grpc-status"] !== undefined;
    // NGHTTP2_FLAG_END_STREAM: a reply that is trailers alone.
    if ((flags & 1) !== 0 && hasStatus) return finishAlone(responseHeaders(headers));
    if (Number(parsed[":status"]) !== 200 || !contentType.startsWith("application/grpc"))
      return finish(httpTrailers(Number(parsed[":status"])));
    if ((flags & 1) !== 0) return finish(resetTrailers(constants.NGHTTP2_NO_ERROR));
    try {
      client.begin(contentType, responseHeaders(headers));
    } catch (error) {
      return fail(error); // an upstream must not end the gateway with a header that Node refuses to send
    }
    client.onDrain(() => call.resume());
    call.on("data", (chunk: Buffer) => {
      if (!client.write(chunk)) call.pause();
    });
    call.once("end", () => (trailers ? finish(trailers) : finishWithout()));
  });
  call.once("trailers", (parsed: IncomingHttpHeaders, _flags: number, raw?: readonly string[]) => {
    const received = responseHeaders(callHeaders(parsed, raw));
    trailers = received["grpc-status"] === undefined ? { ...received, ...resetTrailers(constants.NGHTTP2_NO_ERROR) } : received;
  });
}
