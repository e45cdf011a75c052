// Pages of VMs in a real browser: how somebody comes in, and what pages of one VM cannot do to another one, or to the gateway.
import type { Page } from "playwright-core";
import { afterAll, beforeAll, expect, it } from "vitest";
import { startTestBrowser, type TestBrowser } from "./support/browser.ts";
import { startTestStack, type TestStack } from "./support/stack.ts";

let pitwall: TestStack;
let browser: TestBrowser;
const script =
  "<!doctype html><title>silent</title><p>page of a VM</p><script>document.title = 'spoke'; document.cookie = 'planted=1'</script>";

beforeAll(async () => {
  browser = await startTestBrowser();
  pitwall = await startTestStack();
  const client = pitwall.stack.client();
  for (const name of ["web", "evil"]) {
    await client.vms.create({ name, spec: { image: pitwall.image } });
    await client.vms.wait(name);
    await client.vms.update(name, { ingress: { host: name } });
    await client.writeFile(name, "/srv/www/script.html", Buffer.from(script));
    const url = `${pitwall.stack.endpoint}/vm/${name}/80/`;
    const authorization = `Bearer ${await pitwall.stack.token()}`;
    await untilServed(url, authorization);
  }
});

/** The image's process may take a moment more than its VM. */
async function untilServed(url: string, authorization: string): Promise<void> {
  const until = performance.now() + 20_000;
  while ((await fetch(url, { headers: { authorization } })).status !== 200)
    if (performance.now() > until) throw new Error(`${url} does not answer`);
}

afterAll(async () => {
  await browser?.[Symbol.asyncDispose]();
  await pitwall?.[Symbol.asyncDispose]();
});

const originOf = (host: string): string => `http://${host}.vms.localhost:${pitwall.stack.ports.web}`;

async function enter(page: Page, vm: string, path = "/"): Promise<void> {
  const { url } = await pitwall.stack.client().signedUrl(vm, { path });
  await page.goto(url);
}

interface Asking {
  readonly mode?: "no-cors";
  readonly credentials?: "include";
  readonly method?: string;
  readonly body?: string;
}

/** What the VM, or the gateway for it, answered to what the page itself asks. */
async function statusOf(page: Page, url: string, init: Asking): Promise<number> {
  const [answer] = await Promise.all([
    page.waitForResponse((response) => response.url() === url && response.request().method() !== "OPTIONS"),
    page.evaluate(async ([at, how]) => void (await fetch(at, how).catch(() => undefined)), [url, init] as const),
  ]);
  return answer.status();
}

it("is let in by an address that it shows to nobody, and stays in", async () => {
  const page = await browser.blank();
  expect((await page.goto(`${originOf("web")}/`))?.status()).toBe(401);
  await enter(page, "web", "/script.html?a=b");
  expect(page.url()).toBe(`${originOf("web")}/script.html?a=b`);
  expect(await page.title()).toBe("spoke"); // it is at home here
  const cookies = await page.context().cookies();
  expect(cookies.find(({ name }) => name === "__Host-pitwall-grant")).toMatchObject({
    domain: "web.vms.localhost",
    httpOnly: true,
    secure: true,
    sameSite: "Lax",
  });
  expect(await page.evaluate(() => document.cookie)).toBe("planted=1");
  expect((await page.reload())?.status()).toBe(200);
  expect(await statusOf(page, `${originOf("web")}/`, {})).toBe(200);
  expect(await statusOf(page, `${originOf("web")}/`, { method: "POST", body: "x" })).not.toBe(401);
  expect((await page.goto(`${originOf("evil")}/`))?.status()).toBe(401);
});

it("does not lend it to the page of another VM, which is the same site", async () => {
  const page = await browser.blank();
  await enter(page, "web");
  await enter(page, "evil");
  const all = { mode: "no-cors", credentials: "include" } as const;
  expect(await statusOf(page, `${originOf("web")}/?not-in-the-cache`, all)).toBe(401);
  expect(await statusOf(page, `${originOf("web")}/`, { ...all, method: "POST", body: "x" })).toBe(401);
  expect(await statusOf(page, `${originOf("evil")}/`, { credentials: "include" })).toBe(200);
  const framed = page.waitForResponse((response) => response.url() === `${originOf("web")}/script.html`);
  await page.evaluate(
    (at) => {
      const frame = document.createElement("iframe");
      frame.src = at;
      document.body.append(frame);
    },
    `${originOf("web")}/script.html`,
  );
  expect((await framed).status()).toBe(401);
  // A link that a person follows is something else.
  await page.evaluate((at) => void (location.href = at), `${originOf("web")}/script.html`);
  await page.waitForURL(`${originOf("web")}/script.html`);
  expect(await page.title()).toBe("spoke");
});

it("runs no script of a VM's page below the gateway's own address, whose cookies it cannot set", async () => {
  const page = await browser.blank();
  expect((await page.goto(`${pitwall.stack.endpoint}/vm/evil/80/script.html`))?.status()).toBe(401);
  await page.setExtraHTTPHeaders({ authorization: `Bearer ${await pitwall.stack.token()}` });
  expect((await page.goto(`${pitwall.stack.endpoint}/vm/evil/80/script.html`))?.status()).toBe(200);
  expect(await page.textContent("p")).toBe("page of a VM");
  expect(await page.title()).toBe("silent");
  expect(await page.context().cookies()).toEqual([]);
});
