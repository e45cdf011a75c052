// Ways into VMs that fail amid their opening: whoever wants one hears of it at once, and the next one is open.
import { afterAll, beforeAll, expect, it } from "vitest";
import { startTestStack, type TestStack } from "./support/stack.ts";

/** Of ten that the gateway waits for a node. */
const atOnceMs = 3_000;
/** One after the other: each way in meets one of them. The gateway's place is passed by refusals, too. */
const places = {
  node: ["tunnel.stream.opened#1", "tunnel.guest.accepted#1", "tunnel.node.dialled#1"],
  gateway: ["tunnel.node.accepted#4"],
};

let pitwall: TestStack;

beforeAll(async () => {
  const armed = (names: readonly string[]): Record<string, string> => ({
    PITWALL_ALLOW_FAILPOINTS: "1",
    PITWALL_FAILPOINTS: names.map((name) => `${name}=throw`).join(","),
  });
  pitwall = await startTestStack({ env: { node: { PITWALL_DRIVER: "sim", ...armed(places.node) }, gateway: armed(places.gateway) } });
  await pitwall.stack.client().vms.create({ name: "visited", spec: { image: pitwall.image } });
  await pitwall.stack.client().vms.wait("visited");
});
afterAll(() => pitwall?.[Symbol.asyncDispose]());

/** The status, and how long it took. */
async function visit(): Promise<{ status: number; tookMs: number }> {
  const { stack } = pitwall;
  const headers = { authorization: `Bearer ${await stack.token()}` };
  const begunMs = performance.now();
  const response = await fetch(`${stack.endpoint}/vm/visited/80/`, { headers, signal: AbortSignal.timeout(20_000) });
  await response.text();
  return { status: response.status, tookMs: performance.now() - begunMs };
}

it.each([...places.node, ...places.gateway])("fails at once at %s", async () => {
  const { status, tookMs } = await visit();
  expect(status).toBeGreaterThanOrEqual(400);
  expect(tookMs).toBeLessThan(atOnceMs);
});

it("is open after that", async () => {
  expect((await visit()).status).toBe(200);
});
