// The web console's files on the gateway's own origin: what a browser gets with them, and what nobody gets.
import { mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeAll, describe, expect, it, onTestFinished } from "vitest";
import { openConsoleFiles } from "../src/web/console-files.ts";
import { ask1, ask2, socketTo, textUntil } from "./support/ingress-clients.ts";
import { session2 } from "./support/upstream.ts";
import { vmBehind } from "./support/vm-behind.ts";

const page = "<!doctype html><title>console</title>";
const script = "console.log(1)";
const scriptPath = "/assets/index-B4f5c6d7.js";
const domain = "vms.example.com";
const browsing = { accept: "text/html,application/xhtml+xml,*/*;q=0.8" };

async function folder(): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), "pitwall-console-"));
  onTestFinished(() => rm(dir, { recursive: true, force: true }));
  const console = join(dir, "console");
  await mkdir(join(console, "assets"), { recursive: true });
  await mkdir(join(console, ".git"));
  const files = {
    "index.html": page,
    "icon.svg": "<svg/>",
    "data.bin": "x",
    ".env": "secret",
    ".git/config": "secret",
    "a b.txt": "blank",
  };
  for (const [name, text] of Object.entries(files)) await writeFile(join(console, name), text);
  await writeFile(join(console, scriptPath), script);
  await writeFile(join(dir, "secret"), "secret");
  await symlink(join(dir, "secret"), join(console, "link"));
  await symlink(dir, join(console, "above"));
  return console;
}

async function start(): Promise<number> {
  const files = await openConsoleFiles(await folder(), "https://id.example.com/realms/x");
  return (await vmBehind(createServer(), { files, domain, decide: () => Promise.reject(new Error("nobody is let in")) })).port;
}

describe("the console", () => {
  it("comes with a policy that lets in nothing inline and nothing from elsewhere, on HTTP/1.1 and HTTP/2", async () => {
    const port = await start();
    await using session = await session2(port);
    for (const path of ["/", "/index.html", "/?code=1&state=2"])
      for (const said of [await ask1(port, { path }), await ask2(session, { path })]) {
        expect([said.status, said.body.toString()]).toEqual([200, page]);
        expect(said.headers).toMatchObject({
          "content-type": "text/html; charset=utf-8",
          "content-length": String(page.length),
          "cache-control": "no-cache",
          "x-content-type-options": "nosniff",
          "referrer-policy": "no-referrer",
          "cross-origin-opener-policy": "same-origin",
          "content-security-policy":
            "default-src 'none'; script-src 'self'; style-src 'self'; font-src 'self'; manifest-src 'self'; worker-src 'self'; " +
            "img-src 'self' data:; connect-src 'self' https://id.example.com; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        });
      }
  });

  it("has its files by their names, with their types, kept by browsers for as long as their names say what is in them", async () => {
    const port = await start();
    for (const [path, type, cache, text] of [
      [scriptPath, "text/javascript; charset=utf-8", "public, max-age=31536000, immutable", script],
      ["/icon.svg", "image/svg+xml", "no-cache", "<svg/>"],
      ["/data.bin", "application/octet-stream", "no-cache", "x"],
      ["/a%20b.txt", "text/plain; charset=utf-8", "no-cache", "blank"],
    ]) {
      const { status, headers, body } = await ask1(port, { path: path ?? "" });
      expect([status, headers["content-type"], headers["cache-control"], body.toString()]).toEqual([200, type, cache, text]);
    }
  });

  it("is not sent again to who has it", async () => {
    const port = await start();
    await using session = await session2(port);
    const { headers } = await ask1(port, { path: "/" });
    const tag = headers["etag"] ?? "";
    expect(tag).toMatch(/^"[\w-]{43}"$/);
    for (const known of [tag, `W/${tag}`, `"x", ${tag}`])
      for (const said of [
        await ask1(port, { path: "/", headers: { "if-none-match": known } }),
        await ask2(session, { path: "/", headers: { "if-none-match": known } }),
      ])
        expect([said.status, said.body.length, said.headers["etag"]]).toEqual([304, 0, tag]);
    expect((await ask1(port, { path: "/", headers: { "if-none-match": '"other"' } })).status).toBe(200);
    for (const said of [await ask1(port, { method: "HEAD", path: "/" }), await ask2(session, { method: "HEAD", path: "/" })])
      expect([said.status, said.headers["content-length"], said.body.length]).toEqual([200, String(page.length), 0]);
  });

  it("answers to addresses of its own making when a page is asked for, and to nothing else", async () => {
    const port = await start();
    for (const path of ["/vms/web", "/projects/a/members"]) {
      expect((await ask1(port, { path, headers: browsing })).body.toString()).toBe(page);
      expect((await ask1(port, { path })).status).toBe(404);
    }
    for (const path of ["/assets/gone-B4f5c6d7.js", "/.well-known/other"])
      expect((await ask1(port, { path, headers: browsing })).status).toBe(404);
    expect((await ask1(port, { method: "PUT", path: "/", headers: browsing })).status).toBe(405);
  });

  it("leaves the gateway's own addresses, and those of VMs, as they are", async () => {
    const port = await start();
    expect((await ask1(port, { path: "/healthz", headers: browsing })).body.toString()).toBe("ok\n");
    expect((await ask1(port, { path: "/vm/web/80/", headers: browsing })).body.toString()).not.toContain("console");
    expect((await ask1(port, { method: "POST", path: "/", headers: browsing })).status).toBe(415);
    await using session = await session2(port);
    for (const host of [`web.${domain}`, `8080-web.${domain}`, `a.b.${domain}`]) {
      expect((await ask1(port, { path: "/", headers: { host, ...browsing } })).body.toString()).not.toContain("console");
      const said = await ask2(session, { path: "/", headers: { ":authority": host, ...browsing } });
      expect(said.body.toString()).not.toContain("console");
    }
  });
});

it("nothing but what is in the folder, and meant, is to be had", async () => {
  const port = await start();
  const ways = [
    "/link",
    "/above/secret",
    "/.env",
    "/.git/config",
    "/%2eenv",
    "/../secret",
    "/%2e%2e/secret",
    "/..%2fsecret",
    "/assets/../../secret",
  ];
  for (const path of [
    ...ways,
    "/assets/%2e%2e%2f%2e%2e%2fsecret",
    "/..\\secret",
    "//secret",
    "/secret%00",
    "/%",
    "/__proto__",
    "/constructor",
    "/assets",
    "/assets/",
  ])
    expect([path, (await ask1(port, { path })).status]).toEqual([path, 404]);
  const socket = await socketTo(port); // a client's own library may tidy addresses up
  socket.write("GET /assets/../../secret HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
  expect(await textUntil(socket, /here\n/)).toMatch(/^HTTP\/1\.1 404 /);
});

describe("a folder", () => {
  let console: string;
  beforeAll(async () => {
    console = await mkdtemp(join(tmpdir(), "pitwall-console-"));
    return () => rm(console, { recursive: true, force: true });
  });

  it.each([
    ["that is not there", () => join(console, "nowhere"), "nowhere cannot be read"],
    ["without a page", () => console, "has no index.html"],
  ])("%s is a fault of the configuration", async (_, at, why) => {
    await expect(openConsoleFiles(at(), "http://127.0.0.1:9")).rejects.toMatchObject({
      reason: "INVALID_CONFIG",
      message: expect.stringContaining(why) as string,
    });
  });
});
