// What `pitwall` changes of a VM that is there: labels, size, name, end, and back from the dead. A real VM is restarted.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { run, type Ended } from "./support/run.ts";
import { startTestStack, type TestStack } from "./support/stack.ts";

const bin = join(import.meta.dirname, "..", "node_modules", ".bin", "pitwall");
const monthMs = 30 * 86_400_000;
let pitwall: TestStack;
let dir: string;
let env: Record<string, string>;

const cli = (...args: string[]): Promise<Ended> => run([bin, ...args], { env });
const json = async (...args: string[]): Promise<unknown> => {
  const { stdout, stderr } = await cli(...args, "-o", "json");
  expect(stderr).not.toContain("error:");
  return JSON.parse(stdout);
};
const matching = (pattern: RegExp): string => expect.stringMatching(pattern) as string;

beforeAll(async () => {
  pitwall = await startTestStack();
  dir = await mkdtemp(join(tmpdir(), "pitwall-cli-"));
  env = { XDG_CONFIG_HOME: dir, PITWALL_ENDPOINT: pitwall.stack.endpoint, PITWALL_TOKEN: await pitwall.stack.token(), NO_COLOR: "1" };
  const made = await cli("run", pitwall.image, "--name", "web", "--label", "env=dev", "--ttl", "12h", "--protect");
  expect(made).toMatchObject({ code: 0 });
});

afterAll(async () => {
  await pitwall?.[Symbol.asyncDispose]();
  await rm(dir, { recursive: true, force: true });
});

describe("before anything is done", () => {
  it("run --dry-run says where a VM would be placed, and rm --dry-run what would be lost", async () => {
    expect(await json("run", pitwall.image, "--name", "other", "--dry-run")).toMatchObject({
      vm: { name: "other" },
      plan: { nodeName: matching(/./), policy: matching(/owner/), quotaAfter: { vms: 2 } },
    });
    expect(await json("ls")).toMatchObject([{ name: "web" }]);
    const refused = await cli("rm", "web", "--dry-run");
    expect(refused).toMatchObject({ code: 1, stderr: matching(/the VM web is protected from deletion/) });
  });

  it("what cannot be placed is refused, with why not on each node", async () => {
    const refused = await cli("run", pitwall.image, "--require-label", "zone=mars");
    expect(refused).toMatchObject({ code: 1, stderr: matching(/no node may have the VM: .*its label zone is not set; wanted "mars"/) });
    expect(await cli("run", pitwall.image, "--require-label", "zone in ()")).toMatchObject({
      code: 1,
      stderr: matching(/spec.placement.require_labels\[0\]: must be key=value/),
    });
  });
});

describe("a VM that is there", () => {
  it("ls filters and orders; a filter that cannot be read is explained", async () => {
    expect((await cli("ls", "--filter", "labels.env = dev AND phase = RUNNING")).stdout).toMatch(/^web /m);
    expect(await cli("ls", "--filter", "labels.env = prod")).toMatchObject({ code: 0, stderr: "no VM satisfies the filter\n" });
    expect((await cli("ls", "-A", "--order-by", "create_time desc")).stdout).toMatch(/^PROJECT +NAME/);
    expect(await cli("ls", "--filter", "colour = red")).toMatchObject({
      code: 1,
      stderr: matching(/at character 1: there is no field "colour"/),
    });
  });

  it("update sets and removes labels, and leaves the rest", async () => {
    expect(await json("update", "web", "--label", "env=prod", "--label", "team=red")).toMatchObject({
      spec: { labels: { env: "prod", team: "red" } },
    });
    expect(await json("update", "web", "--unlabel", "team")).toMatchObject({ spec: { labels: { env: "prod" } }, deleteProtection: true });
    const at = new Date(Date.now() + monthMs).toISOString();
    expect(await cli("update", "web", "--reschedule", "--expire-time", at, "--", "/bin/sleep", "9")).toMatchObject({ code: 0 });
    expect(await json("get", "web")).toMatchObject({
      ...{ expireTime: at, spec: { args: ["/bin/sleep", "9"], nodeLossPolicy: "NODE_LOSS_POLICY_RESCHEDULE" } },
    });
    const restored = await json("update", "web", "--no-reschedule", "--no-args", "--expire-time", "never");
    expect(restored).toMatchObject({ spec: { nodeLossPolicy: "NODE_LOSS_POLICY_HOLD" } });
    expect(restored).not.toHaveProperty("expireTime");
    expect(restored).not.toHaveProperty("spec.args");
    await cli("extend", "web", "--ttl", "12h");
    expect(await cli("update", "web")).toMatchObject({ code: 2, stderr: matching(/say what to change/) });
  });

  it("a dry run's token does what it said, once; an etag lets a change through only if nothing came between", async () => {
    const { plan } = (await json("restart", "web", "--dry-run")) as { plan: { token: string; losses: string[] } };
    expect(plan.losses).toEqual(["what the VM web has in memory"]);
    const { etag } = (await json("get", "web")) as { etag: string };
    expect(await json("update", "web", "--label", "seen=yes", "--etag", etag)).toMatchObject({ spec: { labels: { seen: "yes" } } });
    for (const stale of [
      ["--plan", plan.token],
      ["--etag", etag],
    ])
      expect(await cli("restart", "web", ...stale)).toMatchObject({
        code: 1,
        stderr: matching(/the plan no longer holds|has changed since/),
      });
    const token = (await cli("update", "web", "--label", "seen=again", "--dry-run", "-o", "name")).stdout.trim();
    expect(await cli("update", "web", "--label", "seen=no", "--plan", token)).toMatchObject({
      code: 1,
      stderr: matching(/is of another request/),
    });
    expect(await json("update", "web", "--label", "seen=again", "--plan", token)).toMatchObject({ spec: { labels: { seen: "again" } } });
    expect(await cli("stop", "web", "--plan", token, "--dry-run")).toMatchObject({ code: 2 });
  });

  it.each([
    [["ls"], ["update", "web", "--label", "watched=yes"], /"watched":"yes"/],
    [["nodes", "ls"], ["nodes", "cordon", "local"], /"cordoned":true/],
  ])("%j --watch goes on with what changes, a line each, until it is told to end", async (words, change, changed) => {
    const watching = spawn(bin, [...words, "--watch", "-o", "json"], {
      env: { ...process.env, ...env },
      stdio: ["ignore", "pipe", "inherit"],
    });
    const ended = once(watching, "exit");
    let begun: Promise<Ended> | undefined;
    for await (const line of createInterface({ input: watching.stdout })) {
      expect(JSON.parse(line)).toHaveProperty("name");
      if (changed.test(line)) break;
      const name = words[0] === "nodes" ? (JSON.parse(line) as { name: string }).name : "";
      begun ??= cli(...change.map((word) => (word === "local" ? name : word)));
    }
    expect(await begun).toMatchObject({ code: 0 });
    watching.kill("SIGINT");
    await ended;
    if (words[0] === "nodes") for (const { name } of (await json("nodes")) as { name: string }[]) await cli("nodes", "uncordon", name);
  });

  it("restart starts it again, with its disk and the size that it was given", async () => {
    await cli("ssh", "web", "--", "echo kept > /root/file");
    await cli("update", "web", "--memory", "384Mi", "--env", "GREETING=hello");
    const boot = (await cli("ssh", "web", "--", "cat /proc/sys/kernel/random/boot_id")).stdout;
    expect(await cli("restart", "web")).toMatchObject({ code: 0 });
    const { stdout } = await cli(
      "ssh",
      "web",
      "--",
      "cat /root/file /proc/sys/kernel/random/boot_id; tr '\\0' '\\n' < /proc/meminfo | head -1",
    );
    expect(stdout).toMatch(/^kept\n/);
    expect(stdout).not.toContain(boot.trim());
    const totalKib = Number(/MemTotal: +(\d+) kB/.exec(stdout)?.[1]);
    expect(totalKib).toBeGreaterThan(300 * 1024);
    expect((await cli("restart", "nobody")).stderr).toMatch(/there is no VM "nobody"/);
  });

  it("rename gives it another name, by which it is reached", async () => {
    expect(await cli("rename", "web", "shop")).toMatchObject({ code: 0 });
    expect(await cli("ssh", "shop", "--", "true")).toMatchObject({ code: 0 });
    expect((await cli("get", "web")).code).toBe(1);
  });

  it("extend moves its end", async () => {
    expect(await json("get", "shop")).toMatchObject({ expireTime: matching(/^\d{4}-/) });
    expect(await cli("extend", "shop")).toMatchObject({ code: 2, stderr: matching(/either --ttl TIME or --forever/) });
    const before = Date.now();
    const { expireTime } = (await json("extend", "shop", "--ttl", "30d")) as { expireTime: string };
    expect(Date.parse(expireTime)).toBeGreaterThan(before + 29 * 86_400_000);
    expect(await json("extend", "shop", "--forever")).not.toHaveProperty("expireTime");
  });
});

describe("a VM that is removed", () => {
  it("stays while it is protected, then goes, is kept by its project, and comes back with its disk", async () => {
    expect(await cli("rm", "shop")).toMatchObject({
      code: 1,
      stderr: matching(/protected from deletion; `pitwall update shop --no-protect`/),
    });
    expect(await cli("update", "shop", "--no-protect")).toMatchObject({ code: 0 });
    const project = ((await json("get", "shop")) as { project: string }).project;
    expect(await cli("project", "update", project, "--undelete-window", "1h")).toMatchObject({ code: 0 });
    const { id } = (await json("get", "shop")) as { id: string };
    const removed = await cli("rm", "shop");
    expect(removed).toMatchObject({
      code: 0,
      stderr: matching(new RegExp(`shop is removed; until .* \`pitwall undelete ${id}\` brings it back`)),
    });
    expect((await cli("ls")).stdout).not.toMatch(/^shop/m);
    expect((await cli("ls", "--deleted")).stdout).toMatch(new RegExp(`^${id} +shop +removed`, "m"));
    expect(await cli("undelete", id)).toMatchObject({ code: 0 });
    expect(await cli("start", "shop")).toMatchObject({ code: 0 });
    expect((await cli("ssh", "shop", "--", "cat /root/file")).stdout).toBe("kept\n");
  });

  it("goes for good when its project keeps nothing", async () => {
    const project = ((await json("get", "shop")) as { project: string }).project;
    await cli("project", "update", project, "--undelete-window", "0");
    expect(await json("rm", "shop", "--dry-run")).toMatchObject({ plan: { losses: [matching(/the VM shop and its disk of 4096 MiB/)] } });
    expect(await cli("rm", "shop")).toMatchObject({ code: 0, stderr: matching(/shop is gone/) });
  });
});
