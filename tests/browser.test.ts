// The SDK in a real browser: bundled for it, from another origin, over gRPC-Web and WebSocket.
import { afterAll, beforeAll, expect, it } from "vitest";
import { startTestBrowser, type TestBrowser } from "./support/browser.ts";
import { startTestStack, type TestStack } from "./support/stack.ts";

let pitwall: TestStack;
let browser: TestBrowser;

beforeAll(async () => {
  browser = await startTestBrowser();
  pitwall = await startTestStack({ env: { gateway: { PITWALL_CORS_ORIGINS: browser.origin } } });
});

afterAll(async () => {
  await browser?.[Symbol.asyncDispose]();
  await pitwall?.[Symbol.asyncDispose]();
});

it("creates a VM, runs a command in it with input, watches it to its end and deletes it", async () => {
  const page = await browser.open();
  const options = { endpoint: pitwall.stack.endpoint, token: await pitwall.stack.token() };
  const seen = await page.evaluate(
    async ({ options: given, image }) => {
      const client = new window.Pitwall(given);
      const { vms } = client;
      const made = await vms.create({ name: "from-browser", spec: { image } });
      const running = await vms.wait(made.id);
      const names: string[] = [];
      for await (const { name } of vms.list()) names.push(name);
      async function* typed() {
        for (const line of ["one\n", "two\n"]) yield { stdin: new TextEncoder().encode(line) };
      }
      let [output, exit] = ["", -1];
      for await (const said of client.exec(
        made.id,
        { argv: ["sh", "-c", "while read line; do echo got $line; done; exit 7"] },
        { input: typed() },
      ))
        if (said.$case === "exit") exit = said.value.code;
        else output += new TextDecoder().decode(said.value);
      const deleted = vms.delete(made.id);
      const last = await vms.waitUntil(made.id, ({ phase }) => phase === 14);
      await deleted;
      return { running: running.phase, names, output, exit, last: last.phase };
    },
    { options, image: pitwall.image },
  );
  expect(seen).toEqual({ running: 5, names: ["from-browser"], output: "got one\ngot two\n", exit: 7, last: 14 });
});

it("gives typed errors", async () => {
  const page = await browser.open();
  const error = await page.evaluate(
    async (options) => {
      try {
        await new window.Pitwall(options).vms.get("nothing");
        return undefined;
      } catch (cause) {
        return cause instanceof Error && "code" in cause && "reason" in cause ? { code: cause.code, reason: cause.reason } : String(cause);
      }
    },
    { endpoint: pitwall.stack.endpoint, token: await pitwall.stack.token() },
  );
  expect(error).toEqual({ code: "NOT_FOUND", reason: "VM_NOT_FOUND" });
});

it("is refused from an origin that the gateway does not know", async () => {
  const page = await browser.open(browser.origin.replace("127.0.0.1", "localhost"));
  const answer = await page.evaluate(
    (options) =>
      new window.Pitwall(options).getProfile().then(
        ({ subject }) => subject,
        () => "refused",
      ),
    { endpoint: pitwall.stack.endpoint, token: await pitwall.stack.token() },
  );
  expect(answer).toBe("refused");
});

it("opens no WebSocket from such an origin, and one from an origin that it knows", async () => {
  const from = async (origin?: string): Promise<string> =>
    (await browser.open(origin)).evaluate(
      (endpoint) =>
        new Promise<string>((resolve) => {
          const socket = new WebSocket(`${endpoint.replace(/^http/, "ws")}/pitwall.v1.GuestService/Exec`, "pitwall-grpc.v1");
          socket.onclose = ({ code }) => resolve(`closed with ${code}`);
          socket.onopen = () => resolve("open");
        }),
      pitwall.stack.endpoint,
    );
  expect(await from(browser.origin.replace("127.0.0.1", "localhost"))).toBe("closed with 1006"); // how browsers tell of a handshake that failed
  expect(await from()).toBe("open");
});
