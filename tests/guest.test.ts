// What powerunit makes of a VM, as its processes see it and as its API tells.
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { FileChange, FileKind, Health, LogStream, Phase, RestartPolicy, type Vm } from "@pitwall/sdk";
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from "vitest";
import type { Programs } from "./support/parity/images.ts";
import { Layouts } from "./support/parity/layouts.ts";
import { findReport } from "./support/parity/report.ts";
import { programsOf, treeLayer } from "./support/parity/suite.ts";
import { run, type Ended } from "./support/run.ts";
import { deleteVm, startTestStack, type TestStack } from "./support/stack.ts";

let pitwall: TestStack;

beforeAll(async () => {
  pitwall = await startTestStack();
  await create("host", { args: ["sleep", "infinity"] });
});

afterAll(() => pitwall?.[Symbol.asyncDispose]());

async function create(name: string, spec: { args: string[]; restartPolicy?: RestartPolicy }): Promise<Vm> {
  const { vms } = pitwall.stack.client();
  await vms.create({ name, spec: { image: pitwall.image, ...spec } });
  return vms.wait(name);
}

/** Ten parents leave a thousand dead children each: whom nobody has waited for goes to process 1. */
const orphansSource = `
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>
int main(void) {
  int orphans = 0;
  for (int parent = 0; parent < 10; parent++) {
    if (fork() == 0) {
      for (int child = 0; child < 1000; child++) {
        pid_t pid = vfork();
        if (pid == 0) _exit(0);
        if (pid < 0) _exit(1);
      }
      _exit(0);
    }
    int status = 1;
    if (wait(&status) > 0 && status == 0) orphans += 1000;
  }
  printf("%d orphans\\n", orphans);
  return 0;
}
`;

const ssh = (vm: string, command: string): Promise<Ended> => run([...pitwall.ssh.commandFor(vm), command]);

describe("processes", () => {
  it("live in the file systems and limits of a container runtime", async () => {
    const { stdout } = await ssh(
      "host",
      "stat -f -c %T /proc /sys /dev/shm; stat -c %a /dev/shm; ulimit -n; ulimit -Hn; umask; cat /proc/self/oom_score_adj",
    );
    expect(stdout).toBe("proc\nsysfs\ntmpfs\n1777\n1048576\n1048576\n0022\n0\n");
    expect((await ssh("host", "ls -l /dev/fd /dev/stdin /dev/ptmx /dev/null >/dev/null && cat /proc/self/cgroup")).stdout).toBe(
      "0::/vm/sessions\n",
    );
    expect((await ssh("host", "cat /proc/$(pgrep -x sleep || pidof sleep)/cgroup")).stdout).toBe("0::/vm/service\n");
  });

  it("leave no zombie, even 10,000 orphans", async () => {
    const compiled = join(await mkdtemp(join(tmpdir(), "pitwall-orphans-")), "orphans");
    onTestFinished(() => rm(dirname(compiled), { recursive: true }));
    expect(await run(["musl-gcc", "-static", "-Os", "-x", "c", "-", "-o", compiled], { input: orphansSource })).toMatchObject({ code: 0 });
    const program = (await readFile(compiled)).toString("base64");
    const put = await run([...pitwall.ssh.commandFor("host"), "base64 -d > /orphans && chmod +x /orphans"], { input: program });
    expect(put.code).toBe(0);
    expect(await ssh("host", "/orphans")).toMatchObject({ code: 0, stdout: "10000 orphans\n" });
    const zombies = `until [ "$(cat /proc/[0-9]*/stat 2>/dev/null | grep -c ') Z ')" = 0 ]; do :; done; echo none`;
    expect((await ssh("host", zombies)).stdout).toBe("none\n");
  });
});

describe("the image's process", () => {
  it("is started again when it fails, as its policy has it, and its causes are told", async () => {
    const args = ["sh", "-c", "n=$(cat /n 2>/dev/null || echo 0); echo $((n + 1)) > /n; echo run $n; [ $n -lt 3 ] && exit 7; kill -9 $$"];
    await create("failing", { args, restartPolicy: RestartPolicy.RESTART_POLICY_ON_FAILURE });
    const { vms } = pitwall.stack.client();
    const killed = await vms.waitUntil("failing", ({ serviceExit }) => serviceExit?.signal === 9);
    expect(killed.restartCount).toBeGreaterThanOrEqual(3);
    expect(killed.serviceExit).toEqual({ code: 0, signal: 9, outOfMemory: false });
    const again = await vms.waitUntil("failing", ({ restartCount }) => restartCount >= 4);
    expect(again.restartCount).toBeGreaterThanOrEqual(4);
    let said = "";
    for await (const { stream, data } of pitwall.stack.client().readLogs("failing")) {
      expect(stream).toBe(LogStream.STREAM_STDOUT);
      said += Buffer.from(data).toString();
      if (said.includes("run 3")) break;
    }
    expect(said).toMatch(/^run 0\nrun 1\nrun 2\nrun 3\n/);
    await deleteVm(pitwall.stack, "failing");
  });

  it("is not started again when it ends well", async () => {
    await create("done", { args: ["true"], restartPolicy: RestartPolicy.RESTART_POLICY_ON_FAILURE });
    const { vms } = pitwall.stack.client();
    const ended = await vms.waitUntil("done", ({ serviceExit }) => serviceExit !== undefined);
    expect(ended).toMatchObject({ restartCount: 0, serviceExit: { code: 0, signal: 0 }, health: Health.HEALTH_UNSPECIFIED });
    await deleteVm(pitwall.stack, "done");
  });

  it("may eat all memory: it is killed, the cause is told, and SSH lives on", async () => {
    await create("hungry", { args: ["sh", "-c", "exec dd if=/dev/zero of=/dev/null bs=215M count=1"] });
    const { vms } = pitwall.stack.client();
    const eaten = await vms.waitUntil("hungry", ({ serviceExit }) => serviceExit !== undefined);
    expect(eaten.serviceExit).toEqual({ code: 0, signal: 9, outOfMemory: true });
    expect((await ssh("hungry", "dd if=/dev/zero of=/dev/null bs=215M count=1")).code).toBe(255); // a session is killed, not its server
    expect((await ssh("hungry", "echo alive")).stdout).toBe("alive\n");
    await deleteVm(pitwall.stack, "hungry");
  });
});

describe("a stop", () => {
  it.each([
    ["the image's process ends as it likes", 'trap "exit 5" QUIT; echo up; while :; do sleep 0.1; done', { code: 5, signal: 0 }],
    ["the image's process does not handle the signal", "echo up; exec sleep infinity", { code: 0, signal: 3 }],
    ["the image's process would rather not end", 'trap "" QUIT; echo up; while :; do sleep 1; done', { code: 0, signal: 9 }],
  ])("with the image's signal, SIGQUIT, is reported with how %s", async (_, script, end) => {
    await create("stopped", { args: ["sh", "-c", script], restartPolicy: RestartPolicy.RESTART_POLICY_ALWAYS });
    const client = pitwall.stack.client();
    for await (const { data } of client.readLogs("stopped", { follow: true })) if (Buffer.from(data).includes("up")) break;
    await client.vms.stop("stopped");
    expect(await client.vms.wait("stopped", { phases: [Phase.PHASE_STOPPED] })).toMatchObject({
      phase: Phase.PHASE_STOPPED,
      restartCount: 0,
      serviceExit: { ...end, outOfMemory: false },
    });
    await deleteVm(pitwall.stack, "stopped");
  });
});

describe("an image by hand", () => {
  let dir: string;
  let layouts: Layouts;
  let programs: Programs;

  beforeAll(async () => {
    dir = await mkdtemp(join(tmpdir(), "pitwall-guest-"));
    layouts = await Layouts.create(join(dir, "layout"));
    programs = await programsOf(pitwall.provisioned.cacheDir, dir);
  });

  afterAll(() => rm(dir, { recursive: true, force: true }));

  async function boot(name: string, tree: "scratch" | "small" | "musl", config: Readonly<Record<string, unknown>>): Promise<Vm> {
    const image = await layouts.image(name, [await treeLayer(layouts, tree, programs)], config);
    const { vms } = pitwall.stack.client();
    await vms.create({ name, spec: { image } });
    return vms.wait(name);
  }

  it("has a health that its check decides, again and again", async () => {
    const Healthcheck = { Test: ["CMD-SHELL", "test -e /tmp/well"], Interval: 200e6, Timeout: 5e9, Retries: 2 };
    await boot("checked", "small", { Cmd: ["/bin/busybox", "sleep", "1000000"], Healthcheck });
    const { vms } = pitwall.stack.client();
    const becomes = (wanted: Health): Promise<Vm> => vms.waitUntil("checked", ({ health }) => health === wanted);
    await becomes(Health.HEALTH_UNHEALTHY);
    expect((await ssh("checked", "echo > /tmp/well")).code).toBe(0);
    await becomes(Health.HEALTH_HEALTHY);
    expect((await ssh("checked", "/bin/busybox rm /tmp/well")).code).toBe(0);
    expect(await becomes(Health.HEALTH_UNHEALTHY)).toMatchObject({ phase: Phase.PHASE_RUNNING, serviceExit: undefined, restartCount: 0 });
    await deleteVm(pitwall.stack, "checked");
  });

  it("without a shell answers SSH: a command is run as words, and a login says what is missing", async () => {
    await boot("bare", "scratch", { Entrypoint: ["/probe"], Env: ["FROM_IMAGE=yes"] });
    const ran = await ssh("bare", "/probe 'two words' \\$HOME");
    expect(ran).toMatchObject({ code: 0, stderr: "" });
    expect(findReport(ran.stdout)).toMatchObject({
      argv: ["/probe", "two words", "$HOME"],
      env: expect.arrayContaining(["FROM_IMAGE=yes"]) as string[],
    });
    expect(await ssh("bare", "/no/such")).toMatchObject({ code: 127, stderr: expect.stringContaining("/no/such") as string });
    const login = await run(pitwall.ssh.commandFor("bare"));
    expect(login).toMatchObject({
      stdout: "",
      stderr: expect.stringContaining("this image has no shell (/bin/sh); name a program to run") as string,
    });
    expect(login.code).toBe(127);
    await deleteVm(pitwall.stack, "bare");
  });

  it("with programs of musl answers SSH", async () => {
    await boot("musl", "musl", { Entrypoint: ["/probe"] });
    const ran = await ssh("musl", "/probe x");
    expect(ran).toMatchObject({ code: 0, stderr: "" });
    expect(findReport(ran.stdout)).toMatchObject({ argv: ["/probe", "x"] });
    await deleteVm(pitwall.stack, "musl");
  });
});

describe("the API", () => {
  it("runs commands in the background and remembers how they ended", async () => {
    const client = pitwall.stack.client();
    const id = await client.startExec("host", { argv: ["sh", "-c", "echo $X > /tmp/by-exec; exit 3"], env: { X: "made" } });
    await expect
      .poll(async () => (await client.listExecs("host")).find(({ execId }) => execId === id)?.exit?.code, { timeout: 20_000 })
      .toBe(3);
    await expect(client.startExec("host", { argv: ["/no/such"] })).rejects.toMatchObject({ code: "FAILED_PRECONDITION" });
  });

  it("tells of files, reads them and watches them", async () => {
    const client = pitwall.stack.client();
    expect((await ssh("host", "mkdir /w && cd /w && head -c 100000 /dev/zero > big && ln -s big link && chmod 4750 big")).code).toBe(0);
    expect(await client.statFile("host", "/w/big")).toMatchObject({
      name: "big",
      kind: FileKind.FILE_KIND_FILE,
      sizeBytes: 100_000n,
      mode: 0o4750,
    });
    expect((await client.listFiles("host", "/w")).map(({ name, linkTarget }) => [name, linkTarget])).toEqual([
      ["big", ""],
      ["link", "big"],
    ]);
    let bytes = 0;
    for await (const chunk of client.readFile("host", "/w/link")) bytes += chunk.length;
    expect(bytes).toBe(100_000);
    await expect(client.statFile("host", "/w/none")).rejects.toMatchObject({ code: "NOT_FOUND" });
    await expect(client.statFile("host", "w")).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
    const seen: [FileChange, string][] = [];
    for await (const { change, name } of client.watchFiles("host", "/w")) {
      if (change === FileChange.CHANGE_UNSPECIFIED) await ssh("host", "mkdir /w/new; rmdir /w/new");
      else seen.push([change, name]);
      if (change === FileChange.CHANGE_DELETED) break;
    }
    expect(seen).toEqual([
      [FileChange.CHANGE_CREATED, "new"],
      [FileChange.CHANGE_DELETED, "new"],
    ]);
  });

  it("tells what the VM uses", async () => {
    const stats = await pitwall.stack.client().getStats("host");
    expect(stats.diskReadBytes).toBeGreaterThan(0n);
    expect(stats.memTotalBytes).toBeGreaterThan(stats.memAvailableBytes);
  });
});
