// The `pitwall` command as a person uses it, from `run` to `rm`; and a second node, which is only a second command.
import { spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { run, type Ended } from "./support/run.ts";
import { startTestStack, type TestStack } from "./support/stack.ts";

const bin = join(import.meta.dirname, "..", "node_modules", ".bin", "pitwall");
let pitwall: TestStack;
let dir: string;
let env: Record<string, string>;

const cli = (...args: string[]): Promise<Ended> => run([bin, ...args], { env });

beforeAll(async () => {
  pitwall = await startTestStack();
  dir = await mkdtemp(join(tmpdir(), "pitwall-cli-"));
  env = { XDG_CONFIG_HOME: dir, PITWALL_ENDPOINT: pitwall.stack.endpoint, PITWALL_TOKEN: await pitwall.stack.token(), NO_COLOR: "1" };
});

afterAll(async () => {
  await pitwall?.[Symbol.asyncDispose]();
  await rm(dir, { recursive: true, force: true });
});

describe("nodes", () => {
  it("are cordoned, and open again; a drain says what it would do, and nobody is asked without a terminal", async () => {
    const name = (await cli("nodes", "ls", "-o", "name")).stdout.trim();
    expect(await cli("nodes", "cordon", name)).toMatchObject({ code: 0, stderr: `nothing more is placed on ${name}\n` });
    expect((await cli("nodes", "ls")).stdout).toContain("ready, cordoned");
    expect((await cli("nodes", "drain", name, "--dry-run", "-o", "json")).stdout).toContain('"steps"');
    expect((await cli("nodes", "get", name)).stdout).toMatch(/Placement +cordoned/);
    expect((await cli("nodes", "uncordon", name)).code).toBe(0);
    expect((await cli("nodes", "get", name)).stdout).toMatch(/Placement +open/);
    expect(await cli("nodes", "rm", name)).toMatchObject({
      code: 2,
      stderr: expect.stringContaining("add --yes if that is meant") as string,
    });
    const fenced = await cli("nodes", "fence", name, "--yes");
    expect(fenced).toMatchObject({ code: 1, stderr: expect.stringContaining("has a link, so it is not switched off") as string });
  });
});

describe("one VM", () => {
  it("run boots it and says so", async () => {
    const { code, stdout, stderr } = await cli("run", pitwall.image, "--name", "cli", "--memory", "256Mi", "--env", "GREETING=hello");
    expect(stderr).toMatch(/running/i);
    expect(stdout).toContain("cli");
    expect(code).toBe(0);
  });

  it("ls and get show it, as a table and as JSON", async () => {
    expect((await cli("ls")).stdout).toMatch(/^NAME\s+.*\ncli\s+/);
    const { stdout } = await cli("get", "cli", "-o", "json");
    expect(JSON.parse(stdout)).toMatchObject({ name: "cli", phase: "PHASE_RUNNING", spec: { memBytes: "268435456" } });
  });

  it("ssh gives the command's own exit code, and reads only ciphertext at the gateway", async () => {
    expect(await cli("ssh", "cli", "--", "echo in; exit 7")).toMatchObject({ code: 7, stdout: "in\n" });
  });

  it("ssh logs in by a certificate of its own, of which nothing is left", async () => {
    const made = (): Promise<unknown[]> => pitwall.query("select from audit_entry where action = 'VmService/IssueSshCertificate'");
    const before = (await made()).length;
    const keys = (await cli("keys", "ls", "-o", "json")).stdout;
    expect(await cli("ssh", "cli", "--", "true")).toMatchObject({ code: 0 });
    expect((await made()).length).toBe(before + 1);
    expect((await cli("keys", "ls", "-o", "json")).stdout).toBe(keys); // the profile knows no key of it
  });

  it("logs shows what its process wrote", async () => {
    expect(await cli("logs", "cli", "--tail", "3")).toMatchObject({ code: 0 });
  });

  it("stop, start and wait move it", async () => {
    expect(await cli("stop", "cli")).toMatchObject({ code: 0 });
    expect(JSON.parse((await cli("get", "cli", "-o", "json")).stdout)).toMatchObject({ phase: "PHASE_STOPPED" });
    expect(await cli("start", "cli")).toMatchObject({ code: 0 });
    expect(await cli("wait", "cli", "--for", "running")).toMatchObject({ code: 0 });
    expect(await cli("ssh", "cli", "--", "true")).toMatchObject({ code: 0 });
  });

  it("run --restart has its process started again, which get and ls show; another word is refused", async () => {
    expect((await cli("run", pitwall.image, "--name", "again", "--restart", "on-failure", "--", "sh", "-c", "exit 3")).code).toBe(0);
    await expect
      .poll(async () => (await cli("get", "again")).stdout, { timeout: 20_000 })
      .toMatch(/^Restart +on-failure\nRestarts +[1-9]/m);
    expect((await cli("ls")).stdout).toMatch(/^again +running \(service: exit code 3\) +- +[1-9]/m);
    expect(await cli("rm", "again")).toMatchObject({ code: 0 });
    const refused = await cli("run", pitwall.image, "--restart", "sometimes");
    expect(refused).toMatchObject({ stdout: "", stderr: expect.stringMatching(/--restart.*on-failure/) as string });
    expect(refused.code).not.toBe(0);
  });

  it("rm removes it, and a second rm says that there is none", async () => {
    expect(await cli("rm", "cli")).toMatchObject({ code: 0 });
    const again = await cli("rm", "cli");
    expect(again.code).toBe(1);
    expect(again.stderr).toMatch(/^error: there is no VM "cli"/);
  });
});

it("a refused image is one line that names it", async () => {
  const { code, stderr, stdout } = await cli("run", "oci:/nowhere", "--name", "bad");
  expect(code).toBe(1);
  expect(stdout).toBe("");
  expect(stderr).toMatch(/^error: .*\/nowhere/m);
  expect(stderr).not.toContain("    at ");
});

it("a second node joins by a token, is seen, and says goodbye", async () => {
  const { stdout: token } = await cli("join-token", "--role", "node");
  const { kernel, modulesDir, powerunit } = pitwall.provisioned;
  const flags = [
    "--state-dir",
    join(dir, "node-2"),
    "--driver",
    "sim",
    "--kernel",
    kernel,
    "--modules-dir",
    modulesDir,
    "--powerunit",
    powerunit,
  ];
  const node = spawn(bin, ["node", "--join", token.trim(), "--name", "node-2", ...flags], {
    env: { ...process.env, ...env },
    stdio: ["ignore", "pipe", "ignore"],
  });
  const ended = new Promise<number | null>((resolve) => node.once("close", resolve));
  for await (const line of createInterface({ input: node.stdout })) {
    expect(JSON.parse(line)).toMatchObject({ ready: true, name: "node-2", driver: "sim" });
    break;
  }
  await expect.poll(async () => (await cli("nodes")).stdout, { timeout: 20_000, interval: 200 }).toMatch(/node-2\s+ready/i);
  node.kill("SIGTERM");
  expect(await ended).toBe(0);
  await expect.poll(async () => (await cli("nodes")).stdout, { timeout: 20_000, interval: 200 }).toMatch(/node-2\s+unreachable/i);
});
