// Streams in a real browser: a watch that goes on and is resumed, calls that are cancelled, tokens that expire.
// PITWALL_BROWSER_STREAM is how long the watch goes on (12s when it is not set; `10m` for ten minutes).
import { duration } from "@pitwall/runtime";
import { ProjectRole } from "@pitwall/sdk";
import { afterAll, beforeAll, expect, it } from "vitest";
import { startTestBrowser, type TestBrowser } from "./support/browser.ts";
import { startTestStack, type TestStack } from "./support/stack.ts";
import { openWire } from "./support/wire.ts";

const streamMs = duration.parse(process.env["PITWALL_BROWSER_STREAM"] ?? "12s");
const changeMs = 200;
/** Of every so many changes the last tenth is made while the browser is cut off. */
const changesPerCut = 50;

let pitwall: TestStack;
let browser: TestBrowser;

beforeAll(async () => {
  browser = await startTestBrowser();
  pitwall = await startTestStack({
    env: { gateway: { PITWALL_CORS_ORIGINS: browser.origin, PITWALL_OPS_LISTEN: "127.0.0.1:0" } },
  });
});

afterAll(async () => {
  await browser?.[Symbol.asyncDispose]();
  await pitwall?.[Symbol.asyncDispose]();
});

/** Calls that are under way in the gateway. */
async function calls(): Promise<number> {
  const answer = await fetch(`http://127.0.0.1:${String(pitwall.stack.services.gateway.ready["ops"])}/metrics`);
  return Number(/^pitwall_gateway_calls (\d+)$/m.exec(await answer.text())?.[1]);
}

it(
  "a watch is resumed whenever its connection is cut, and neither misses nor doubles a change",
  { timeout: streamMs + 120_000 },
  async () => {
    const { vms } = pitwall.stack.client();
    const { id } = await vms.create({ name: "watched", spec: { image: pitwall.image, labels: { n: "0" } } });
    await vms.wait(id);
    await using wire = await openWire(pitwall.stack.ports.web);
    const page = await browser.open();
    // Each change of the VM has an etag of its own; the node's are among them.
    const [seen, undisturbed]: [string[], string[]] = [[], []];
    const stop = new AbortController();
    const beside = (async () => {
      for await (const { vm } of vms.watch({ vm: id, signal: stop.signal })) undisturbed.push(`${vm.spec?.labels["n"]} ${vm.etag}`);
    })();
    await page.exposeFunction("saw", (change: string) => void seen.push(change));
    await page.evaluate(
      ({ options, vm }) => {
        const watch = async (): Promise<void> => {
          const { saw } = window as unknown as { saw: (change: string) => Promise<void> };
          for await (const change of new window.Pitwall(options).vms.watch({ vm }))
            await saw(`${change.vm.spec?.labels["n"]} ${change.vm.etag}`);
        };
        void watch();
      },
      { options: { endpoint: `http://127.0.0.1:${wire.port}`, token: await pitwall.stack.token() }, vm: id },
    );
    await expect.poll(() => [seen.length, undisturbed.length], { timeout: 10_000 }).toEqual([1, 1]);

    const began = performance.now();
    let [made, cuts] = [0, 0];
    while (performance.now() - began < streamMs || cuts === 0) {
      await new Promise((resolve) => setTimeout(resolve, changeMs));
      if (made % changesPerCut === changesPerCut * 0.8) wire.cut();
      await vms.update(id, { labels: { n: String(++made) } });
      if (made % changesPerCut === changesPerCut * 0.9) {
        wire.mend();
        cuts++;
      }
    }
    wire.mend();
    const isLast = (change = ""): boolean => change.startsWith(`${made} `);
    await expect.poll(() => isLast(seen.at(-1)) && seen.length === undisturbed.length, { timeout: 15_000 }).toBe(true);
    expect(seen).toEqual(undisturbed);
    expect(new Set(seen).size).toBe(seen.length);
    expect(new Set(seen.map((change) => change.split(" ")[0])).size).toBe(made + 1);
    expect(wire.connections()).toBeGreaterThan(cuts);
    const seconds = ((performance.now() - began) / 1_000).toFixed(0);
    process.stdout.write(`a watch in Chromium for ${seconds} s: ${made} changes, ${cuts} cuts, none missed, none doubled\n`);
    stop.abort();
    await beside;
    await page.close();
  },
);

it("a call that is cancelled ends in the gateway too: a watch, and a command by WebSocket", async () => {
  const { vms } = pitwall.stack.client();
  const { id } = await vms.create({ name: "left-alone", spec: { image: pitwall.image } });
  await vms.wait(id);
  await expect.poll(calls, { timeout: 10_000 }).toBe(0);
  const page = await browser.open();
  await page.evaluate(
    async ({ options, vm }) => {
      const client = new window.Pitwall(options);
      const stop = new AbortController();
      Object.assign(window, { stop });
      const watch = client.vms.watch({ vm, signal: stop.signal });
      await watch.next();
      const said = client.exec(vm, { argv: ["sh", "-c", "echo here; exec sleep 600"] }, { signal: stop.signal })[Symbol.asyncIterator]();
      await said.next();
      const ended = Promise.allSettled([watch.next(), said.next()]);
      Object.assign(window, { ended });
    },
    { options: { endpoint: pitwall.stack.endpoint, token: await pitwall.stack.token() }, vm: id },
  );
  expect(await calls()).toBe(2);
  const outcomes = await page.evaluate(async () => {
    const { stop, ended } = window as unknown as { stop: AbortController; ended: Promise<PromiseSettledResult<unknown>[]> };
    stop.abort();
    return (await ended).map(({ status }) => status);
  });
  expect(outcomes[0]).toBe("fulfilled"); // a watch just ends
  await expect.poll(calls, { timeout: 5_000 }).toBe(0);
  await page.close();
});

it("a token that expires ends the watch that it opened and refuses calls; with a fresh one they go on", async () => {
  const { secret } = await pitwall.stack.client().projects.createToken({ role: ProjectRole.PROJECT_ROLE_MEMBER, ttlMs: 3_000 });
  const page = await browser.open();
  await page.exposeFunction("freshToken", () => pitwall.stack.token());
  const seen = await page.evaluate(
    async ({ endpoint, token }) => {
      const { freshToken } = window as unknown as { freshToken: () => Promise<string> };
      const codeOf = (error: unknown): string => (error instanceof Error && "code" in error ? String(error.code) : String(error));
      const client = new window.Pitwall({ endpoint, token });
      const { subject } = await client.getProfile();
      const ended = await (async () => {
        try {
          for await (const _ of client.vms.watch());
          return "ended";
        } catch (error) {
          return codeOf(error);
        }
      })();
      const refused = await client.getProfile().then(() => "let in", codeOf);
      const renewed = await new window.Pitwall({ endpoint, token: freshToken }).getProfile();
      return { subject, ended, refused, renewed: renewed.subject };
    },
    { endpoint: pitwall.stack.endpoint, token: secret },
  );
  expect(seen).toEqual({ subject: "dev", ended: "UNAUTHENTICATED", refused: "UNAUTHENTICATED", renewed: "dev" });
  await page.close();
});
