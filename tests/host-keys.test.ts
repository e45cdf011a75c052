// SSH host keys that somebody has changed, in the guest, on the node, and at the gateway: no client goes on, and none is asked a question.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Phase, type Vm } from "@pitwall/sdk";
import { afterAll, beforeAll, expect, it } from "vitest";
import { run, type Ended } from "./support/run.ts";
import { startTestStack, type TestStack } from "./support/stack.ts";

const bin = join(import.meta.dirname, "..", "node_modules", ".bin", "pitwall");
const otherKey = `ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI${"A".repeat(43)}`;
let pitwall: TestStack;
let vm: Vm;
let dir: string;
let env: NodeJS.ProcessEnv;

beforeAll(async () => {
  pitwall = await startTestStack();
  await pitwall.stack.client().vms.create({ name: "keyed", spec: { image: pitwall.image } });
  vm = await pitwall.stack.client().vms.wait("keyed");
  dir = await mkdtemp(join(tmpdir(), "pitwall-keys-"));
  env = { XDG_CONFIG_HOME: dir, PITWALL_ENDPOINT: pitwall.stack.endpoint, PITWALL_TOKEN: await pitwall.stack.token(), NO_COLOR: "1" };
});
afterAll(async () => {
  await pitwall?.[Symbol.asyncDispose]();
  await rm(dir, { recursive: true, force: true });
});

const byPitwall = (): Promise<Ended> => run([bin, "ssh", "keyed", "--", "echo in"], { env });
const byDoor = (): Promise<Ended> => run([...pitwall.ssh.commandFor("keyed"), "echo in"]);

it("another one in the guest than the node has told of: the gateway goes no further, and neither does a client that jumps", async () => {
  expect(await byPitwall()).toMatchObject({ code: 0, stdout: "in\n" });
  // What a guest shows that is not what it should is, to all others, what it should be and does not show.
  await pitwall.query("update vm set ssh_host_key = $1 where id = $2", [otherKey, vm.id]);
  expect(await byDoor()).toMatchObject({ code: 255, stdout: "", stderr: expect.stringMatching(/^pitwall: /) as string });
  const config = join(dir, "pitwall", "ssh", "hosts", vm.id);
  await rm(config, { force: true }); // as one who has never been there
  expect(await byPitwall()).toMatchObject({
    code: 255,
    stdout: "",
    stderr: expect.stringContaining("Host key verification failed") as string,
  });
  await pitwall.query("update vm set ssh_host_key = $1 where id = $2", [vm.sshHostKey, vm.id]);
  await rm(config, { force: true });
  expect(await byPitwall()).toMatchObject({ code: 0, stdout: "in\n" });
});

it("another one on the node: the audit log has it, and `pitwall ssh` goes no further until its user says so", async () => {
  const { vms } = pitwall.stack.client();
  await vms.stop("keyed");
  await vms.wait("keyed", { phases: [Phase.PHASE_STOPPED] });
  await rm(join(pitwall.stack.stateDir, "node", "vms", vm.id, "host_key.pem"));
  await vms.start("keyed");
  expect((await vms.wait("keyed")).sshHostKey).not.toBe(vm.sshHostKey);
  const refused = await byPitwall();
  expect(refused).toMatchObject({ code: 1, stdout: "", stderr: expect.stringContaining("is not the one that it had") as string });
  const entries = await pitwall.query("select object, detail from audit_entry where action = 'HostKeyChanged'");
  const fingerprint = expect.stringMatching(/^SHA256:/) as string;
  expect(entries).toEqual([{ object: `vm/${vm.id}`, detail: { was: fingerprint, is: fingerprint } }]);
  const [, file = ""] = /remove (\S+)/.exec(refused.stderr) ?? [];
  await rm(file);
  expect(await byPitwall()).toMatchObject({ code: 0, stdout: "in\n" });
});

it("another one at the gateway: a client that knows it goes no further", async () => {
  expect(await byDoor()).toMatchObject({ code: 0, stdout: "in\n" });
  await rm(join(pitwall.stack.stateDir, "gateway", "ssh_host_key"));
  process.kill(pitwall.stack.services.gateway.pid() ?? 0, "SIGKILL");
  await expect
    .poll(async () => (await byDoor()).stderr, { timeout: 30_000, interval: 200 })
    .toContain("REMOTE HOST IDENTIFICATION HAS CHANGED");
  expect(await byDoor()).toMatchObject({ code: 255, stdout: "" });
});
