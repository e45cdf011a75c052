// The whole path through the public doors only: SDK, OpenSSH, HTTP.
import { randomBytes } from "node:crypto";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { LogStream, Phase, type Vm } from "@pitwall/sdk";
import { afterAll, beforeAll, expect, it } from "vitest";
import { run, type Ended } from "./support/run.ts";
import { deleteVm, startTestStack, type TestStack } from "./support/stack.ts";

let pitwall: TestStack;
let vm: Vm;
const phases: Phase[] = [];
let links: string;

const ssh = (...command: string[]): Promise<Ended> => run([...pitwall.ssh.commandFor("web"), ...command]);

beforeAll(async () => {
  pitwall = await startTestStack();
  links = (await run(["ip", "-o", "link"])).stdout;
  const { vms } = pitwall.stack.client();
  const made = await vms.create({ name: "web", spec: { image: pitwall.image } });
  for await (const change of vms.watch({ vm: made.id })) {
    vm = change.vm;
    phases.push(vm.phase);
    if (vm.phase === Phase.PHASE_RUNNING || vm.phase === Phase.PHASE_FAILED) break;
  }
});

afterAll(() => pitwall?.[Symbol.asyncDispose]());

it("is watched from placed to running, each phase in its order", () => {
  expect(phases.at(-1)).toBe(Phase.PHASE_RUNNING);
  expect(phases.toSorted((a, b) => a - b)).toEqual(phases);
  expect(vm.observedGeneration).toBe(vm.generation);
  expect(vm.sshHostKey).toMatch(/^ssh-ed25519 /);
});

it("is a Linux of its own for stock OpenSSH", async () => {
  expect(await ssh("id")).toMatchObject({ code: 0, stdout: "uid=0(root) gid=0(root) groups=0(root)\n" });
  expect((await ssh("uname -r")).stdout).toMatch(/^6\.\d+\.\d+.*-cloud-amd64\n$/);
  expect((await ssh("hostname")).stdout).toBe("web\n");
});

it("gives back exit codes, and apart what went to stdout and to stderr", async () => {
  expect(await ssh("echo out; echo err >&2; exit 7")).toMatchObject({ code: 7, stdout: "out\n", stderr: "err\n" });
});

it("has a terminal when one is asked for", async () => {
  const { stdout } = await run([...pitwall.ssh.commandFor("web").toSpliced(1, 0, "-tt"), "tty; stty size; exit 3"]);
  expect(stdout).toMatch(/^\/dev\/pts\/\d+\r\n/);
});

it("copies 5 MB in and out with scp, byte for byte", async () => {
  const dir = await mkdtemp(join(tmpdir(), "pitwall-scp-"));
  try {
    const sent = randomBytes(5_000_000);
    await writeFile(join(dir, "up"), sent);
    const scp = ["scp", ...pitwall.ssh.options, "-P", String(pitwall.stack.ports.ssh)];
    expect(await run([...scp, join(dir, "up"), "web@127.0.0.1:/root/copy"])).toMatchObject({ code: 0 });
    expect(await run([...scp, "web@127.0.0.1:/root/copy", join(dir, "down")])).toMatchObject({ code: 0 });
    expect((await readFile(join(dir, "down"))).equals(sent)).toBe(true);
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
});

it("lets nobody in with another key", async () => {
  const dir = await mkdtemp(join(tmpdir(), "pitwall-key-"));
  try {
    await run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", join(dir, "key")]);
    const line = pitwall.ssh.commandFor("web").map((word) => (word.endsWith("/id_ed25519") ? join(dir, "key") : word));
    const { code, stderr } = await run([...line, "true"]);
    expect(code).toBe(255);
    expect(stderr).toContain("Permission denied (publickey)");
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
});

it("runs the image's own CMD, which answers through the gateway to whoever has a token", async () => {
  const url = `${pitwall.stack.endpoint}/vm/web/80/`;
  const get = async (): Promise<Response> => fetch(url, { headers: { authorization: `Bearer ${await pitwall.stack.token()}` } });
  await expect.poll(async () => (await get()).status, { timeout: 20_000 }).toBe(200);
  expect(await (await get()).text()).toContain("This page comes out of a microVM");
  expect((await fetch(url)).status).toBe(401);
  const http2 = ["curl", "-s", "--http2-prior-knowledge", "-w", "%{http_version} %{http_code}", url];
  expect((await run([...http2, "-H", `authorization: Bearer ${await pitwall.stack.token()}`])).stdout).toMatch(/microVM[^]*2 200$/);
  // An answer's end must not be overtaken by word that what was asked is not read: curl takes that for no answer.
  for (const body of Array.from({ length: 40 }, (_, n) => (n % 2 === 0 ? [] : ["-d", "text"])))
    expect((await run([...http2, ...body])).stdout).toMatch(/2 401$/);
});

it("runs other arguments instead of CMD, with the image's environment and the VM's own, and tells how they ended", async () => {
  const client = pitwall.stack.client();
  await client.vms.create({
    name: "once",
    spec: { image: pitwall.image, args: ["sh", "-c", "env; pwd; echo oops >&2; exit 5"], env: { GREETING: "hello there" } },
  });
  const ended = await client.vms.waitUntil("once", ({ serviceExit }) => serviceExit !== undefined);
  expect(ended.serviceExit).toMatchObject({ code: 5, signal: 0 });
  expect(ended.phase).toBe(Phase.PHASE_RUNNING); // the VM goes on, and can be looked into
  const said = { stdout: "", stderr: "" };
  for await (const { stream, data } of client.readLogs("once"))
    said[stream === LogStream.STREAM_STDERR ? "stderr" : "stdout"] += Buffer.from(data).toString();
  expect(said.stderr).toBe("oops\n");
  expect(said.stdout.split("\n")).toEqual(
    expect.arrayContaining(["GREETING=hello there", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "/"]),
  );
  await deleteVm(pitwall.stack, "once");
});

it("resolves names with the VM's resolver and reaches its network", async () => {
  expect((await ssh("cat /etc/resolv.conf")).stdout).toBe("nameserver 10.0.2.3\n");
  // The gateway of the VM's network answers TCP on the host's loopback: the tunnel port of the stack itself.
  const { code } = await ssh(`timeout 10 bash -c '</dev/tcp/10.0.2.2/${pitwall.stack.ports.web}'`);
  expect(code).toBe(0);
});

it("keeps its disk over stop and start", async () => {
  const { vms } = pitwall.stack.client();
  expect((await ssh("echo kept > /root/note")).code).toBe(0);
  await vms.stop("web");
  expect((await vms.wait("web", { phases: [Phase.PHASE_STOPPED] })).phase).toBe(Phase.PHASE_STOPPED);
  await vms.start("web");
  expect((await vms.wait("web")).phase).toBe(Phase.PHASE_RUNNING);
  expect((await ssh("cat /root/note")).stdout).toBe("kept\n");
});

it("leaves no process, file, link or row when it is deleted", async () => {
  await deleteVm(pitwall.stack, "web");
  const { stdout: processes } = await run(["ps", "-eo", "args"]);
  expect(processes).not.toContain(vm.id);
  expect(await readdir(join(pitwall.stack.stateDir, "node", "vms"))).toEqual([]);
  expect((await run(["ip", "-o", "link"])).stdout).toBe(links);
  expect(await pitwall.query("select id from vm")).toEqual([]);
  await expect(pitwall.stack.client().vms.get("web")).rejects.toMatchObject({ code: "NOT_FOUND", reason: "VM_NOT_FOUND" });
});
