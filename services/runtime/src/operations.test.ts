import { Counter, Registry } from "prom-client";
import { afterEach, describe, expect, it } from "vitest";
import { openOperations, type Operations } from "./operations.ts";

let operations: Operations | undefined;
afterEach(() => operations?.[Symbol.asyncDispose]());

async function open(
  notReady: () => Promise<string | undefined> = async () => undefined,
): Promise<(path: string) => Promise<[number, string]>> {
  const registry = new Registry();
  new Counter({ name: "pitwall_test_total", help: "x", registers: [registry] }).inc(3);
  const levels = [{ name: "pitwall_test_level", help: "y", read: () => 7 }];
  operations = await openOperations({ at: { host: "127.0.0.1", port: 0 }, service: "test", registry, levels, notReady });
  const base = `http://127.0.0.1:${operations.port}`;
  return async (path) => {
    const answer = await fetch(`${base}${path}`);
    return [answer.status, await answer.text()];
  };
}

describe("the port of operations", () => {
  it("says that the process lives, what it has counted, and what Node tells of it", async () => {
    const get = await open();
    expect(await get("/healthz")).toEqual([200, "ok\n"]);
    const [status, text] = await get("/metrics");
    expect(status).toBe(200);
    for (const line of ["pitwall_test_total 3", "pitwall_test_level 7"]) expect(text.split("\n")).toContain(line);
    expect(text).toMatch(/^nodejs_eventloop_lag_p99_seconds \d/m);
    expect(text).toMatch(/^process_resident_memory_bytes \d/m);
    expect((await get("/else"))[0]).toBe(404);
  });

  it("says why it is not ready, and while it is stopping it never is", async () => {
    let why: string | undefined = "the database is away";
    const get = await open(async () => why);
    expect(await get("/readyz")).toEqual([503, "the database is away\n"]);
    why = undefined;
    expect(await get("/readyz")).toEqual([200, "ready\n"]);
    operations?.stopping();
    expect(await get("/readyz")).toEqual([503, "it is stopping\n"]);
    expect((await get("/healthz"))[0]).toBe(200);
  });

  it("is not ready when it cannot find out", async () => {
    const get = await open(async () => {
      throw new Error("nobody answers");
    });
    expect(await get("/readyz")).toEqual([503, "nobody answers\n"]);
  });

  it("is not there unless an address is given", async () => {
    operations = await openOperations({ at: undefined, service: "test", notReady: async () => undefined });
    expect(operations.port).toBeUndefined();
  });
});
