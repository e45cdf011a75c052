// The SDK in a real browser: bundled for it, from another origin, over gRPC-Web and WebSocket.
import { once } from "node:events";
import { createServer, type Server } from "node:http";
import { chromium, type Browser, type Page } from "playwright-core";
import { afterAll, beforeAll, expect, it } from "vitest";
import { build } from "vite";
import { startTestStack, type TestStack } from "./support/stack.ts";

let pitwall: TestStack;
let pages: Server;
let origin: string;
let browser: Browser;

/** What the page offers to the test. */
declare global {
  interface Window {
    Pitwall: typeof import("@pitwall/sdk").Pitwall;
  }
}

beforeAll(async () => {
  const bundle = await bundleSdk();
  pages = createServer((request, response) => {
    const isScript = request.url === "/sdk.js";
    response.setHeader("content-type", isScript ? "text/javascript" : "text/html");
    response.end(
      isScript ? bundle : '<!doctype html><script type="module">import * as sdk from "/sdk.js"; Object.assign(window, sdk);</script>',
    );
  }).listen(0, "127.0.0.1");
  await once(pages, "listening");
  const address = pages.address();
  origin = `http://127.0.0.1:${typeof address === "object" ? address?.port : ""}`;
  pitwall = await startTestStack({ env: { gateway: { PITWALL_CORS_ORIGINS: origin } } });
  browser = await chromium.launch({
    executablePath: "/usr/bin/chromium",
    args: ["--no-sandbox", "--disable-background-networking", "--disable-component-update"],
  });
});

afterAll(async () => {
  await browser?.close();
  await pitwall?.[Symbol.asyncDispose]();
  pages?.close();
});

async function bundleSdk(): Promise<string> {
  const entry = new URL("../clients/ts-sdk/src/index.ts", import.meta.url).pathname;
  const built = await build({
    logLevel: "silent",
    configFile: false,
    build: { write: false, lib: { entry, formats: ["es"], fileName: "sdk" } },
  });
  const [output] = Array.isArray(built) ? built : [built];
  if (!output || !("output" in output)) throw new Error("the bundler gave no output");
  return output.output.map((chunk) => (chunk.type === "chunk" ? chunk.code : "")).join("");
}

async function open(at: string): Promise<Page> {
  const page = await browser.newPage();
  await page.goto(at);
  await page.waitForFunction(() => "Pitwall" in window);
  return page;
}

it("creates a VM, runs a command in it with input, watches it to its end and deletes it", async () => {
  const page = await open(origin);
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
  const page = await open(origin);
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
  const page = await open(origin.replace("127.0.0.1", "localhost"));
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
