// Host certificates, with stock OpenSSH that jumps and knows nothing but the lines of `pitwall ssh-config --known-hosts`: it is asked nothing
// about VMs that are yours, by the names that they have, and is not fooled by others.
import { randomBytes } from "node:crypto";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { sshEd25519Line } from "@pitwall/runtime";
import { Phase, type Vm } from "@pitwall/sdk";
import { afterAll, beforeAll, expect, it } from "vitest";
import { run, type Ended } from "./support/run.ts";
import { writeAuthority } from "./support/ssh-authority.ts";
import { deleteVm, startTestStack, type TestStack } from "./support/stack.ts";

const bin = join(import.meta.dirname, "..", "node_modules", ".bin", "pitwall");
const isIn = { code: 0, stdout: "in\n", stderr: "" };
const isRefused = { code: 255, stdout: "", stderr: expect.stringContaining("Host key verification failed") as string };
let pitwall: TestStack;
let dir: string;
let config: string;
let own: Vm;
let shared: Vm;

beforeAll(async () => {
  pitwall = await startTestStack();
  const { stack, image, ssh } = pitwall;
  dir = await mkdtemp(join(tmpdir(), "pitwall-known-"));
  const env = { XDG_CONFIG_HOME: dir, PITWALL_ENDPOINT: stack.endpoint, PITWALL_TOKEN: await stack.token(), NO_COLOR: "1" };
  const printed = await run([bin, "ssh-config", "--known-hosts"], { env });
  expect(printed).toMatchObject({ code: 0, stderr: "" });
  // Before there is any VM: none of them is in it.
  await writeFile(join(dir, "known_hosts"), printed.stdout);
  config = await configOf("known_hosts", ssh.options[ssh.options.indexOf("-i") + 1] ?? "");
  const client = stack.client();
  await client.projects.create("team");
  await client.vms.create({ name: "web", spec: { image } });
  await client.vms.create({ name: "web", project: "team", spec: { image } });
  [own, shared] = [await client.vms.wait("web"), await client.vms.wait("team/web")];
});
afterAll(async () => {
  if (shared) await deleteVm(pitwall.stack, shared.id);
  await pitwall?.[Symbol.asyncDispose]();
  await rm(dir, { recursive: true, force: true });
});

async function configOf(knownHosts: string, identity: string): Promise<string> {
  const lines = [
    ...[`UserKnownHostsFile ${join(dir, knownHosts)}`, "GlobalKnownHostsFile /dev/null", "StrictHostKeyChecking yes", "LogLevel ERROR"],
    ...[`IdentityFile ${identity}`, "IdentitiesOnly yes"],
  ];
  const file = join(dir, `config-${knownHosts}`);
  await writeFile(file, `${lines.join("\n")}\n`);
  return file;
}

/** `ssh -J jump@gateway NAME`. */
const jump = (name: string, { as = name, by = config } = {}): Promise<Ended> =>
  run([
    ...["ssh", "-F", by, "-J", `jump@127.0.0.1:${pitwall.stack.ports.ssh}`],
    ...(as === name ? [] : ["-o", `HostKeyAlias=${as}`]),
    ...[`root@${name}`, "echo in"],
  ]);

/** The same files with these lines in place of the one that believes certificates. */
async function knowing(...lines: string[]): Promise<string> {
  const [gateway = ""] = (await readFile(join(dir, "known_hosts"), "utf8")).split("\n");
  const name = `known-${randomBytes(8).toString("hex")}`;
  await writeFile(join(dir, name), [gateway, ...lines, ""].join("\n"));
  const { options } = pitwall.ssh;
  return configOf(name, options[options.indexOf("-i") + 1] ?? "");
}

it("a VM of one's own is known by its name and by its id, another project's by its id, before anybody has seen them", async () => {
  expect(await jump("web")).toMatchObject(isIn);
  expect(await jump(own.id)).toMatchObject(isIn);
  expect(await jump(shared.id)).toMatchObject(isIn);
});

it("another project's VM of the same name does not pass for it, nor one's own for something else", async () => {
  expect(await jump(shared.id, { as: "web" })).toMatchObject(isRefused);
  expect(await jump("web", { as: "db" })).toMatchObject(isRefused);
  expect(await jump("web", { as: shared.id })).toMatchObject(isRefused);
});

it("nobody else is believed: no authority, another one, the one that signs logins", async () => {
  const file = join(dir, "authority");
  await writeAuthority(pitwall.stack.stateDir, file);
  const { stdout: authority } = await run(["ssh-keygen", "-y", "-f", file]);
  const other = sshEd25519Line(randomBytes(32));
  for (const lines of [[], [`@cert-authority * ${other}`], [`@cert-authority * ${authority.trim()}`]])
    expect(await jump("web", { by: await knowing(...lines) }), lines.join()).toMatchObject(isRefused);
  const { sshHostAuthority } = await pitwall.stack.client().getProfile();
  expect(await jump("web", { by: await knowing(`@cert-authority web ${sshHostAuthority}`) })).toMatchObject(isIn);
});

it("a VM that was renamed is known by its new name alone", async () => {
  await pitwall.stack.client().vms.rename("web", "shop");
  expect(await jump("shop")).toMatchObject(isIn);
  expect(await jump("shop", { as: "web" })).toMatchObject(isRefused);
  expect(await jump("web")).toMatchObject({ code: 255, stdout: "" });
});

it("a VM is known after its node's agent was killed, and when a jump wakes it", async () => {
  const { services, client } = pitwall.stack;
  const pid = services.node.pid();
  process.kill(pid ?? 0, "SIGKILL");
  await expect.poll(() => services.node.pid(), { timeout: 20_000, interval: 20 }).not.toBe(pid);
  await expect.poll(() => jump("shop"), { timeout: 30_000, interval: 500 }).toMatchObject(isIn);
  await client().vms.suspend("shop");
  await client().vms.waitUntil("shop", ({ phase }) => phase === Phase.PHASE_SUSPENDED);
  expect(await jump("shop")).toMatchObject(isIn);
});

it("a VM with another key where it is, is known no more", async () => {
  const { vms } = pitwall.stack.client();
  await vms.stop("shop");
  await vms.wait("shop", { phases: [Phase.PHASE_STOPPED] });
  await rm(join(pitwall.stack.stateDir, "node", "vms", own.id, "host_key.pem"));
  await vms.start("shop");
  expect((await vms.wait("shop")).sshHostKey).not.toBe(own.sshHostKey);
  expect(await jump("shop")).toMatchObject(isRefused);
});
