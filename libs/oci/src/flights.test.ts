import { expect, it } from "vitest";
import { Flights } from "./flights.ts";

/** The result alone. */
const join = <T>(flights: Flights<T>, key: string, signal: AbortSignal, start: (shared: AbortSignal) => Promise<T>): Promise<T> =>
  flights.join(key, signal, () => undefined, start).result;
const never = new AbortController().signal;

it("does work once for all who ask while it is under way, and again for who asks after", async () => {
  const flights = new Flights<number>();
  let starts = 0;
  const gate = Promise.withResolvers<void>();
  const start = async (): Promise<number> => {
    starts++;
    await gate.promise;
    return starts;
  };
  const both = [join(flights, "a", never, start), join(flights, "a", never, start)];
  gate.resolve();
  expect(await Promise.all(both)).toEqual([1, 1]);
  expect(await join(flights, "a", never, start)).toBe(2);
});

it("goes on while one waits, and is aborted when the last has left", async () => {
  const flights = new Flights<void>();
  let shared: AbortSignal | undefined;
  const start = async (signal: AbortSignal): Promise<void> => {
    shared = signal;
    await new Promise(() => undefined);
  };
  const [one, two] = [new AbortController(), new AbortController()];
  const first = join(flights, "a", one.signal, start);
  const second = join(flights, "a", two.signal, start);
  one.abort(new Error("one left"));
  await expect(first).rejects.toThrow("one left");
  expect(shared?.aborted).toBe(false);
  two.abort(new Error("two left"));
  await expect(second).rejects.toThrow("two left");
  expect(shared?.aborted).toBe(true);
});

it("is idle only when work that was given up has ended too", async () => {
  const flights = new Flights<void>();
  const leaving = new AbortController();
  const cleaned = Promise.withResolvers<void>();
  const first = join(flights, "a", leaving.signal, () => cleaned.promise);
  leaving.abort(new Error("left"));
  await expect(first).rejects.toThrow("left");
  let isIdle = false;
  const idle = flights.idle().then(() => (isIdle = true));
  await Promise.resolve();
  expect(isIdle).toBe(false);
  cleaned.resolve();
  await idle;
});

it("does not let a newcomer join work that was given up", async () => {
  const flights = new Flights<string>();
  const leaving = new AbortController();
  const first = join(flights, "a", leaving.signal, () => new Promise(() => undefined));
  leaving.abort(new Error("left"));
  await expect(first).rejects.toThrow("left");
  expect(await join(flights, "a", never, async () => "fresh")).toBe("fresh");
});

it("tells a failure to all who wait", async () => {
  const flights = new Flights<void>();
  const start = async (): Promise<void> => {
    throw new Error("failed");
  };
  const both = await Promise.allSettled([join(flights, "a", never, start), join(flights, "a", never, start)]);
  expect(both.map(({ status }) => status)).toEqual(["rejected", "rejected"]);
});
