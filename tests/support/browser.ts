// A real Chromium with the SDK in a page, which comes from an origin of its own.
import { once } from "node:events";
import { createServer } from "node:http";
import { chromium, type Page } from "playwright-core";
import { build } from "vite";

/** What the page offers to the test. */
declare global {
  interface Window {
    Pitwall: typeof import("@pitwall/sdk").Pitwall;
  }
}

/** Disposing it ends the browser. */
export interface TestBrowser extends AsyncDisposable {
  /** `http://127.0.0.1:PORT` */
  readonly origin: string;
  /** A new page of this origin, or of another name for it. */
  open(at?: string): Promise<Page>;
  /** A new page without anything, which shares nothing with others. */
  blank(): Promise<Page>;
}

export async function startTestBrowser(): Promise<TestBrowser> {
  const bundle = await bundleSdk();
  await using parts = new AsyncDisposableStack();
  const pages = createServer((request, response) => {
    const isScript = request.url === "/sdk.js";
    response.setHeader("content-type", isScript ? "text/javascript" : "text/html");
    response.end(
      isScript ? bundle : '<!doctype html><script type="module">import * as sdk from "/sdk.js"; Object.assign(window, sdk);</script>',
    );
  }).listen(0, "127.0.0.1");
  parts.defer(() => void pages.close());
  await once(pages, "listening");
  const address = pages.address();
  const origin = `http://127.0.0.1:${typeof address === "object" ? address?.port : ""}`;
  const browser = await chromium.launch({
    executablePath: "/usr/bin/chromium",
    args: ["--no-sandbox", "--disable-background-networking", "--disable-component-update"],
  });
  parts.defer(() => browser.close());
  const kept = parts.move();
  return {
    origin,
    async open(at = origin) {
      const page = await browser.newPage();
      await page.goto(at);
      await page.waitForFunction(() => "Pitwall" in window);
      return page;
    },
    blank: () => browser.newPage(),
    [Symbol.asyncDispose]: () => kept.disposeAsync(),
  };
}

async function bundleSdk(): Promise<string> {
  const entry = new URL("../../clients/ts-sdk/src/index.ts", import.meta.url).pathname;
  const built = await build({
    logLevel: "silent",
    configFile: false,
    build: { write: false, lib: { entry, formats: ["es"], fileName: "sdk" } },
  });
  const [output] = Array.isArray(built) ? built : [built];
  if (!output || !("output" in output)) throw new Error("the bundler gave no output");
  return output.output.map((chunk) => (chunk.type === "chunk" ? chunk.code : "")).join("");
}
