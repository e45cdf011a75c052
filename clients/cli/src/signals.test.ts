import { EventEmitter } from "node:events";
import { expect, test } from "vitest";
import { Interrupted, openSignals } from "./signals.ts";

function setUp() {
  const source = new EventEmitter();
  const ends: number[] = [];
  const clock = { ms: 0 };
  const signals = openSignals(
    source,
    () => clock.ms,
    (code) => ends.push(code),
  );
  return { source, ends, clock, signals };
}

test("the first Ctrl-C aborts, with shells' exit code", () => {
  const { source, signals, ends } = setUp();
  source.emit("SIGINT");
  expect(signals.signal.reason).toBeInstanceOf(Interrupted);
  expect(signals.signal.reason).toMatchObject({ exitCode: 130 });
  expect(ends).toEqual([]);
});

test("the same Ctrl-C twice within a moment is one", () => {
  const { source, ends, clock } = setUp();
  source.emit("SIGINT");
  clock.ms = 20;
  source.emit("SIGINT");
  expect(ends).toEqual([]);
});

test("a second Ctrl-C ends the process", () => {
  const { source, ends, clock } = setUp();
  source.emit("SIGINT");
  clock.ms = 1000;
  source.emit("SIGINT");
  expect(ends).toEqual([130]);
});

test("signals that are lent do not abort", () => {
  const { source, signals } = setUp();
  const taken: string[] = [];
  const loan = signals.lend((name) => taken.push(name));
  source.emit("SIGTERM");
  expect(taken).toEqual(["SIGTERM"]);
  expect(signals.signal.aborted).toBe(false);
  loan[Symbol.dispose]();
  source.emit("SIGHUP");
  expect(signals.signal.reason).toMatchObject({ exitCode: 129 });
});
