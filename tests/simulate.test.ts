// Simulated nodes beside a real controller: `pitwall node --simulate`, as a user runs it to test against Pitwall without a hypervisor.
import { spawn, type ChildProcess } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { NodeState, Phase } from "@pitwall/sdk";
import { afterAll, beforeAll, expect, it } from "vitest";
import { run } from "./support/run.ts";
import { startTestStack, type TestStack } from "./support/stack.ts";

const bin = join(import.meta.dirname, "..", "node_modules", ".bin", "pitwall");
const count = 5;
const zoned = ["--label", "zone=a|b|c", "--label", "kind=sim"];
const script = `
boot: 5ms..50ms
faults:
  - { fault: agent-crash, nodes: sim-1, step: create.vmm.spawned, vm: 1, restart: 300ms }
  - { fault: lost-report, nodes: sim-2, phase: RUNNING }
`;

let pitwall: TestStack;
let dir: string;
let nodes: ChildProcess | undefined;
let env: Record<string, string>;

async function simulate(...args: string[]): Promise<ChildProcess> {
  const child = spawn(bin, ["node", "--state-dir", join(dir, "state"), "--name", "sim", "--log-level", "error", ...args], {
    env: { ...process.env, ...env },
    stdio: ["ignore", "pipe", "inherit"],
  });
  const { value } = await createInterface({ input: child.stdout })[Symbol.asyncIterator]().next();
  expect(JSON.parse(String(value))).toEqual({ ready: true, name: "sim", nodes: count, driver: "sim" });
  return child;
}

async function stop(child: ChildProcess | undefined): Promise<void> {
  if (!child || child.exitCode !== null) return;
  const ended = new Promise((resolve) => child.once("exit", resolve));
  child.kill("SIGTERM");
  await ended;
}

beforeAll(async () => {
  pitwall = await startTestStack();
  dir = await mkdtemp(join(tmpdir(), "pitwall-simulate-"));
  env = { XDG_CONFIG_HOME: dir, PITWALL_ENDPOINT: pitwall.stack.endpoint, PITWALL_TOKEN: await pitwall.stack.token() };
});

afterAll(async () => {
  await pitwall?.[Symbol.asyncDispose]();
  await stop(nodes);
  await rm(dir, { recursive: true, force: true });
});

it("one join string lets in as many nodes as it was made for, and no more", async () => {
  const { stdout, code } = await run([bin, "join-token", "--role", "node", "--uses", String(count), "-o", "name"], { env });
  expect(code).toBe(0);
  await writeFile(join(dir, "faults.yaml"), script);
  const joining = ["--join", stdout.trim(), "--count", String(count), "--seed", "7", ...zoned];
  nodes = await simulate(...joining, `--simulate=${join(dir, "faults.yaml")}`, "--trace", join(dir, "trace.jsonl"));
  const names = (await pitwall.stack.client().listNodes())
    .filter(({ state }) => state === NodeState.NODE_STATE_READY)
    .map(({ name }) => name);
  expect(names).toEqual(expect.arrayContaining(["sim-1", "sim-2", "sim-3", "sim-4", "sim-5"]));
  const late = await run([bin, "node", "--simulate", "--state-dir", join(dir, "late"), "--name", "late", "--join", stdout.trim()], { env });
  expect(late.code).toBe(1);
  expect(late.stderr).toContain("this join token was used already");
});

it("VMs run there, through crashes and lost reports, and are deleted without a trace", async () => {
  const { vms, projects } = pitwall.stack.client();
  const names = Array.from({ length: 2 * count }, (_, index) => `virtual-${index}`);
  const memBytes = BigInt(32 * 2 ** 30); // more than the real node beside them has
  await projects.update("", { quota: { memBytes: memBytes * BigInt(names.length) } });
  // One after the other, so that each node gets its share, and with it its fault.
  for (const name of names) await vms.create({ name, spec: { image: pitwall.image, memBytes } });
  const made = await Promise.all(names.map((name) => vms.wait(name)));
  expect(made.map(({ phase, nodeName }) => [phase, nodeName.replace(/\d+$/, "N")])).toEqual(
    names.map(() => [Phase.PHASE_RUNNING, "sim-N"]),
  );
  await Promise.all(names.map((name) => vms.delete(name)));
  await expect.poll(async () => pitwall.query("select name from vm"), { timeout: 30_000, interval: 100 }).toEqual([]);
  const events = (await readFile(join(dir, "trace.jsonl"), "utf8")).trim().split("\n");
  const steps = new Set(events.map((line) => (JSON.parse(line) as { step: string }).step));
  for (const step of ["fault.agent-crash", "fault.lost-report", "create.vmm.started", "delete.anchor.gone", "link.report"])
    expect(steps).toContain(step);
});

it("nodes that start again are who they were", async () => {
  await stop(nodes);
  const before = (await pitwall.stack.client().listNodes()).map(({ id }) => id);
  nodes = await simulate("--simulate", "--count", String(count), ...zoned);
  expect((await pitwall.stack.client().listNodes()).map(({ id }) => id)).toEqual(before);
});

it("labels that nodes were given decide where VMs go", async () => {
  const listed = await run([bin, "nodes", "ls"], { env });
  expect(listed.stdout).toMatch(/sim-2 .*kind=sim,zone=b /);
  const nodeOf = async (name: string, ...args: string[]): Promise<string> => {
    const { code, stderr } = await run([bin, "run", pitwall.image, "--name", name, ...args], { env });
    expect([code, stderr]).toEqual([0, expect.any(String)]);
    return (await pitwall.stack.client().vms.get(name)).nodeName;
  };
  expect(await nodeOf("required", "--require-label", "zone=c")).toBe("sim-3");
  expect(["sim-2", "sim-5"]).toContain(await nodeOf("preferred", "--require-label", "kind=sim", "--prefer-label", "zone=b"));
  const domains = ["--require-label", "kind=sim", "--label", "app=web", "--anti-affinity", "app", "--failure-domain", "zone"];
  const spread: string[] = [];
  for (const name of ["web-1", "web-2", "web-3"]) spread.push(await nodeOf(name, ...domains));
  expect(new Set(spread.map((name) => (Number(name.slice("sim-".length)) - 1) % 3)).size).toBe(3);
  const refused = await run([bin, "run", pitwall.image, "--name", "web-4", ...domains], { env });
  expect([refused.code, refused.stderr]).toEqual([expect.any(Number), expect.stringContaining("no node may have the VM")]);
  const { vms } = pitwall.stack.client();
  for (const name of ["required", "preferred", "web-1", "web-2", "web-3"]) await vms.delete(name);
});

it("a label that none can name is refused by its field, before anything joins", async () => {
  const args = ["--state-dir", join(dir, "wrong"), "--join", "x", "--label", "zone=a b"];
  const { code, stderr } = await run([bin, "node", "--simulate", ...args], { env });
  expect([code, stderr]).toEqual([2, expect.stringContaining("PITWALL_LABEL: label: the value of zone must be at most 63 letters")]);
});

it("a script that makes no sense is refused by its place, before anything joins", async () => {
  const path = join(dir, "wrong.yaml");
  await writeFile(path, "faults: [{ fault: slow-boot }]");
  const { code, stderr } = await run([bin, "node", `--simulate=${path}`, "--state-dir", join(dir, "wrong"), "--join", "x"], { env });
  expect(code).toBe(2);
  expect(stderr).toContain("the simulation's script: faults.0.for: Invalid input: expected string");
});

it("a watch says when all that there was has been shown, also when that is nothing, and its token goes on from there", async () => {
  const { vms } = pitwall.stack.client();
  const end = new AbortController();
  const token = await new Promise<string>((resolve) => {
    void (async () => {
      for await (const { vm } of vms.watch({ signal: end.signal, onSynced: resolve })) throw new Error(`there is no ${vm.name}`);
    })();
  });
  end.abort();
  const made = await vms.create({ name: "later", spec: { image: pitwall.image } });
  const seen: string[] = [];
  for await (const { vm } of vms.watch({ resumeToken: token })) {
    seen.push(vm.etag);
    if (vm.phase === Phase.PHASE_RUNNING) break;
  }
  expect(seen[0]).toBe(made.etag);
  await vms.waitUntilGone(await vms.delete(made.id));
});
