// A real development issuer as a process, and a browser for its pages that has no window.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { createInterface } from "node:readline";

const main = join(import.meta.dirname, "..", "..", "..", "..", "services", "issuer", "src", "main.ts");

export interface RunningIssuer extends AsyncDisposable {
  readonly url: string;
}

/** Starts one on a free port, with its state in `stateDir`. */
export async function startIssuer(stateDir: string): Promise<RunningIssuer> {
  const child = spawn(process.execPath, [main], {
    env: { PATH: process.env["PATH"], PITWALL_STATE_DIR: stateDir, PITWALL_LISTEN: "127.0.0.1:0" },
    stdio: ["ignore", "pipe", "ignore"],
  });
  const gone = once(child, "exit");
  for await (const line of createInterface({ input: child.stdout })) {
    const found = /"issuer":"([^"]+)"/.exec(line)?.[1];
    if (found === undefined) continue;
    return {
      url: found,
      async [Symbol.asyncDispose]() {
        child.kill();
        await gone;
      },
    };
  }
  throw new Error("the issuer did not start");
}

interface Page {
  readonly url: string;
  readonly html: string;
}

/** Enters the code and signs in as `user`, page by page, as a person would; or refuses once asked. */
export async function enterCode(url: string, code: string, answer: { readonly user: string } | "refuse"): Promise<void> {
  const cookies = new Map<string, string>();

  async function visit(start: string, form?: URLSearchParams): Promise<Page> {
    let at = start;
    let body = form;
    for (let hops = 0; hops < 10; hops++) {
      const cookie = [...cookies].map(([name, value]) => `${name}=${value}`).join("; ");
      const response = await fetch(at, { redirect: "manual", headers: { cookie }, ...(body && { method: "POST", body }) });
      for (const line of response.headers.getSetCookie()) {
        const [, name = "", value = ""] = /^([^=]+)=([^;]*)/.exec(line) ?? [];
        cookies.set(name, value);
      }
      const location = response.headers.get("location");
      if (location === null) return { url: at, html: await response.text() };
      at = new URL(location, at).href;
      body = undefined;
    }
    throw new Error("the issuer redirects without an end");
  }

  let page = await visit(url);
  for (let steps = 0; steps < 8 && page.html.includes("<form"); steps++) {
    const action = /<form[^>]* action="([^"]+)"/.exec(page.html)?.[1] ?? page.url;
    const form = new URLSearchParams();
    for (const [, attributes = ""] of page.html.matchAll(/<input([^>]*)>/g)) {
      const name = /name="([^"]+)"/.exec(attributes)?.[1];
      if (name !== undefined) form.set(name, /value="([^"]*)"/.exec(attributes)?.[1] ?? "");
    }
    if (form.has("user_code")) form.set("user_code", code);
    if (form.has("login") && answer !== "refuse") form.set("login", answer.user);
    if (form.has("confirm") && answer === "refuse") form.set("abort", "yes");
    page = await visit(new URL(action, page.url).href, form);
    if (answer === "refuse" && form.has("abort")) return;
  }
}
