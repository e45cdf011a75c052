// A recorder before a controller that answers as each test says. The controller's own side is in services/controller/tests/recordings.test.ts.
import { silentLog, VirtualClock } from "@pitwall/runtime";
import { ClientError, Status } from "nice-grpc";
import { expect, test } from "vitest";
import { Recorder, type RecordingClient } from "./recorder.ts";

type Call = "openRecording" | "appendRecording" | "closeRecording";

class Peer {
  readonly clock = new VirtualClock();
  /** Of each part, by its number. */
  readonly parts: string[] = [];
  readonly failures: string[] = [];
  closed: string | undefined;
  empty = 0;
  /** What stands in the way of a call; it is asked before each. */
  fault: (call: Call) => Promise<void> | void = () => undefined;

  readonly #client: RecordingClient = {
    openRecording: async () => {
      await this.fault("openRecording");
      return {};
    },
    appendRecording: async ({ part = 0, data = new Uint8Array() }) => {
      await this.fault("appendRecording");
      if (data.length === 0) this.empty++;
      else this.parts[part] = Buffer.from(data).toString();
      return {};
    },
    closeRecording: async ({ end = "" }) => {
      await this.fault("closeRecording");
      this.closed = end;
      return {};
    },
  };

  open(): Promise<Recorder> {
    const recorded = { sessionId: "s", command: "", terminal: { columns: 80, rows: 24, term: "xterm" }, title: "root@web" };
    return Recorder.open({ access: () => this.#client, clock: this.clock, log: silentLog }, recorded, (why) => this.failures.push(why));
  }

  get events(): unknown[] {
    const [, ...events] = this.parts
      .join("")
      .split("\n")
      .filter((line) => line !== "")
      .map((line): unknown => JSON.parse(line));
    return events;
  }
}

const refuse = (code: Status, message = "no"): never => {
  throw new ClientError("x", code, message);
};

test("what is shown is stored half a second later, in order, and the end with it", async () => {
  const peer = new Peer();
  const recorder = await peer.open();
  await recorder.output(Buffer.from("one"), "stdout");
  expect(peer.parts).toEqual([]);
  await peer.clock.advance(500);
  expect(peer.events).toEqual([[0, "o", "one"]]);
  recorder.resized(100, 30);
  await recorder.output(Buffer.from("two"), "stderr");
  await recorder.close("exit code 0");
  expect(peer.events).toEqual([
    [0, "o", "one"],
    [0.5, "r", "100x30"],
    [0.5, "o", "two"],
    [0.5, "m", "exit code 0"],
  ]);
  expect(peer.closed).toBe("exit code 0");
});

test("a character that comes in two pieces is one, and the two streams do not cut each other's", async () => {
  const peer = new Peer();
  const recorder = await peer.open();
  const [first, second] = [Buffer.from("ö").subarray(0, 1), Buffer.from("ö").subarray(1)];
  await recorder.output(first, "stdout");
  await recorder.output(Buffer.from("e"), "stderr");
  await recorder.output(second, "stdout");
  await recorder.close("");
  expect(peer.events).toEqual([
    [0, "o", "e"],
    [0, "o", "ö"],
  ]);
});

test("a session that shows nothing is kept alive", async () => {
  const peer = new Peer();
  const recorder = await peer.open();
  await peer.clock.advance(60_000);
  expect(peer.empty).toBeGreaterThanOrEqual(5);
  expect(peer.failures).toEqual([]);
  await recorder.close("");
});

test("whoever shows more than can be stored waits, and nothing of it is lost", async () => {
  const peer = new Peer();
  const recorder = await peer.open();
  const stored = Promise.withResolvers<void>();
  peer.fault = () => stored.promise;
  const shown = Buffer.alloc(1_000_000, "x");
  let isTaken = false;
  const output = recorder.output(shown, "stdout").then(() => (isTaken = true));
  await peer.clock.advance(2_000);
  expect(isTaken).toBe(false);
  stored.resolve();
  await output;
  await recorder.close("");
  expect(peer.events.map((event) => (event as [number, string, string])[2]).join("")).toBe(shown.toString());
  expect(Math.max(...peer.parts.map((part) => part.length))).toBeLessThanOrEqual(512 * 1024);
});

test("a controller that is away for a while loses nothing", async () => {
  const peer = new Peer();
  const recorder = await peer.open();
  peer.fault = () => refuse(Status.UNAVAILABLE);
  await recorder.output(Buffer.from("here"), "stdout");
  await peer.clock.advance(5_000);
  peer.fault = () => undefined;
  await peer.clock.advance(2_000);
  expect(peer.events).toEqual([[0, "o", "here"]]);
  expect(peer.failures).toEqual([]);
  await recorder.close("");
});

test.each([
  ["controllers stay away", Status.UNAVAILABLE, "the session's recording cannot be stored"],
  ["the recording is over", Status.FAILED_PRECONDITION, "the session's recording cannot be stored"],
  ["the recording is full", Status.RESOURCE_EXHAUSTED, "it is full"],
])("the session is told to end, once, and shows no more, when %s", async (_, code, why) => {
  const peer = new Peer();
  const recorder = await peer.open();
  peer.fault = (call) => (call === "appendRecording" ? refuse(code, "it is full") : undefined);
  await recorder.output(Buffer.from("here"), "stdout");
  await peer.clock.advance(30_000);
  expect(peer.failures).toEqual([why]);
  await expect(recorder.output(Buffer.from("more"), "stdout")).rejects.toThrow("the session's recording cannot be stored");
  await recorder.close(why);
  expect(peer).toMatchObject({ failures: [why], closed: why });
});

test("without a beginning there is no session", async () => {
  const peer = new Peer();
  peer.fault = () => refuse(Status.RESOURCE_EXHAUSTED, "the project has no room");
  await expect(peer.open()).rejects.toMatchObject({ fault: "exhausted", message: "the project has no room" });
});

test("closing is patient, but not for ever", async () => {
  const peer = new Peer();
  const recorder = await peer.open();
  peer.fault = () => refuse(Status.UNAVAILABLE);
  const closed = recorder.close("x");
  await peer.clock.advance(60_000);
  await closed;
  expect(peer.closed).toBeUndefined();
});
