// The client of Firecracker's API, with servers that answer as Firecracker does and as it does not; and the tail of a pipe.
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { appendFile, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { createServer, type RequestListener } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it, onTestFinished } from "vitest";
import { openApi, type Api } from "../src/firecracker/api.ts";
import { openPipeTail } from "../src/firecracker/pipe-tail.ts";

const uid = process.getuid?.() ?? 0;

async function scratch(): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), "pitwall-api-"));
  onTestFinished(() => rm(dir, { recursive: true }));
  return dir;
}

/** A client of a server that answers so. */
async function serve(answer: RequestListener): Promise<{ api: Api; path: string }> {
  const path = join(await scratch(), "api.sock");
  const server = createServer(answer).listen(path);
  await once(server, "listening");
  const api = openApi(path, uid);
  onTestFinished(() => {
    api[Symbol.dispose]();
    server.closeAllConnections();
    server.close();
  });
  return { api, path };
}

it("sends a call as JSON with its length, one connection for all", async () => {
  const seen: unknown[] = [];
  const ports = new Set<unknown>();
  const { api } = await serve((request, response) => {
    ports.add(request.socket);
    request.setEncoding("utf8").on("data", (text: string) => {
      seen.push([request.method, request.url, request.headers["content-length"] === String(text.length), JSON.parse(text)]);
      response.writeHead(204).end();
    });
  });
  await api.put("/machine-config", { vcpu_count: 2, mem_size_mib: 128 });
  const drive = { path_on_host: "/data", is_root_device: false, is_read_only: false, cache_type: "Writeback", rate_limiter: {} } as const;
  await api.put("/drives", { ...drive, drive_id: "data" });
  await api.setState("Paused");
  expect(seen).toEqual([
    ["PUT", "/machine-config", true, { vcpu_count: 2, mem_size_mib: 128 }],
    ["PUT", "/drives/data", true, { ...drive, drive_id: "data" }],
    ["PATCH", "/vm", true, { state: "Paused" }],
  ]);
  expect(ports.size).toBe(1);
});

it("carries Firecracker's own words in its error", async () => {
  const { api } = await serve((_, response) => response.writeHead(400).end('{"fault_message":"The vCPU number is invalid!"}'));
  await expect(api.put("/actions", { action_type: "InstanceStart" })).rejects.toMatchObject({
    fault: "unavailable",
    reason: "VMM_REFUSED",
    message: "Firecracker refused PUT /actions: The vCPU number is invalid!",
  });
});

it.each([
  ["a success that the API does not have", 200, "{}"],
  ["a refusal without a reason", 400, ""],
  ["a refusal that is no JSON", 500, "<html>"],
])("takes %s for a refusal", async (_, status, text) => {
  const { api } = await serve((__, response) => response.writeHead(status).end(text));
  await expect(api.setState("Resumed")).rejects.toMatchObject({
    reason: "VMM_REFUSED",
    message: expect.stringContaining(`status ${status}`) as string,
  });
});

it.each([
  ["no JSON", "x"],
  ["an unknown state", '{"id":"a","state":"Ready","vmm_version":"1.17.0","app_name":"Firecracker"}'],
  ["too little", '{"id":"a"}'],
  ["far too much", `{"id":"${"a".repeat(1 << 17)}","state":"Running","vmm_version":"1.17.0"}`],
])("believes no description that is %s", async (_, text) => {
  const { api } = await serve((__, response) => response.writeHead(200).end(text));
  await expect(api.describe()).rejects.toMatchObject({ fault: "unavailable", reason: "VMM_SILENT" });
});

it.each([
  { vcpu_count: 0, mem_size_mib: 128 },
  { vcpu_count: 33, mem_size_mib: 128 },
  { vcpu_count: 1, mem_size_mib: 0.5 },
])("does not send what is beyond the API's limits: %j", async (body) => {
  let calls = 0;
  const { api } = await serve((_, response) => {
    calls++;
    response.writeHead(204).end();
  });
  await expect(api.put("/machine-config", body)).rejects.toMatchObject({ fault: "invalid", reason: "VMM_LIMIT" });
  expect(calls).toBe(0);
});

it("follows no link that has been put in the socket's place, and uses no file and no other user's socket", async () => {
  let calls = 0;
  const { path } = await serve((_, response) => {
    calls++;
    response.writeHead(204).end();
  });
  const dir = await scratch();
  await symlink(path, join(dir, "link"));
  await writeFile(join(dir, "file"), "");
  for (const [wrong, owner] of [
    [join(dir, "link"), uid],
    [join(dir, "file"), uid],
    [join(dir, "nothing"), uid],
    [path, uid + 1],
  ] as const) {
    using api = openApi(wrong, owner);
    await expect(api.setState("Paused"), wrong).rejects.toMatchObject({ reason: "VMM_SILENT" });
  }
  expect(calls).toBe(0);
});

it("keeps the last of what comes through a pipe, and makes nobody wait", async () => {
  const path = join(await scratch(), "pipe");
  execFileSync("mkfifo", [path]);
  using tail = openPipeTail(path, 8, 1 << 20);
  await appendFile(path, "hello, ");
  await appendFile(path, "world");
  expect(tail.text()).toBe("o, world");
  expect(tail.text()).toBe("o, world");
});

it("takes no more from a pipe than it may, and its writer finds it full", async () => {
  const path = join(await scratch(), "pipe");
  execFileSync("mkfifo", [path]);
  using tail = openPipeTail(path, 1 << 20, 1);
  const flood = ["if=/dev/zero", `of=${path}`, "bs=4096", "count=256", "oflag=nonblock", "conv=notrunc"];
  const codes: (number | null)[] = [];
  for (let at = 0; at < 8; at++) {
    const [code] = (await once(spawn("dd", flood, { stdio: "ignore" }), "exit")) as [number | null];
    codes.push(code);
  }
  expect(codes.at(-1)).toBe(1);
  expect(tail.text().length).toBeLessThan(1 << 18); // of 8 MiB: a pipe's content before it is told to rest, and another that it looks at
});

it("reads nothing but a pipe", async () => {
  const path = join(await scratch(), "file");
  await writeFile(path, "secret");
  expect(() => openPipeTail(path, 8, 1)).toThrow("has become something else");
  await symlink(path, `${path}-link`);
  expect(() => openPipeTail(`${path}-link`, 8, 1)).toThrow("ELOOP");
});
