// SSH sessions in the audit log: their ends with the bytes that went through, also when the gateway is killed under them.
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { Pitwall, ProjectRole } from "@pitwall/sdk";
import { afterAll, beforeAll, expect, it } from "vitest";
import { run } from "./support/run.ts";
import { startTestStack, type TestStack } from "./support/stack.ts";

const mib = 2 ** 20;
let pitwall: TestStack;

beforeAll(async () => {
  pitwall = await startTestStack();
  await pitwall.stack.client().vms.create({ name: "visited", spec: { image: pitwall.image } });
  await pitwall.stack.client().vms.wait("visited");
});
afterAll(() => pitwall?.[Symbol.asyncDispose]());

interface End {
  readonly toVmBytes?: number;
  readonly fromVmBytes?: number;
  readonly seconds?: number;
  readonly lost?: string;
}

const begins = async (): Promise<number> =>
  (await pitwall.query("select from audit_entry where action = 'AccessService/OpenTunnel' and detail->>'target' = 'ssh'")).length;
const ends = async (): Promise<End[]> =>
  (await pitwall.query("select detail from audit_entry where action = 'AccessService/EndSessions' order by seq")).map(
    ({ detail }) => detail as End,
  );

it("a session's end tells how much went which way", async () => {
  const ssh = pitwall.ssh.commandFor("visited");
  const { code } = await run([...ssh, "cat >/dev/null; head -c 3145728 /dev/zero"], { input: "x".repeat(mib) });
  expect(code).toBe(0);
  await expect.poll(ends, { timeout: 20_000, interval: 100 }).toHaveLength(1);
  const [end] = await ends();
  expect(await begins()).toBe(1);
  // What SSH adds to it is a few KiB, and a twentieth at most.
  expect(end?.toVmBytes).toBeGreaterThan(mib);
  expect(end?.toVmBytes).toBeLessThan(1.05 * mib);
  expect(end?.fromVmBytes).toBeGreaterThan(3 * mib);
  expect(end?.fromVmBytes).toBeLessThan(3.15 * mib);
  expect(end?.seconds).toBeGreaterThan(0);
  const [key] = await pitwall.stack.client().listSshKeys();
  expect(end).toMatchObject({ way: "door", user: "root", key: key?.fingerprint });
  expect(await pitwall.query("select id from access_session")).toEqual([]);
});

it.each([
  ["stdout", ""],
  ["stderr", "2>&1 >/dev/null"],
])("a client that reads slowly has all of a session's %s, however long ago the session has ended", async (stream, redirected) => {
  const shown = 3_500_000; // more than a client is granted at once (2 MiB), and less than it and the gateway are together
  const command = `head -c ${shown} /dev/zero ${stream === "stderr" ? ">&2" : ""}`;
  const words = ["sh", "-c", `"$@" ${redirected} | { sleep 2; wc -c; }`, "sh", ...pitwall.ssh.commandFor("visited"), command];
  expect((await run(words)).stdout.trim()).toBe(String(shown));
  // The tests below count ends.
  await expect.poll(() => pitwall.query("select id from access_session"), { timeout: 20_000, interval: 100 }).toEqual([]);
});

it("a session whose key is taken away ends within seconds, and so does a command whose token is revoked", async () => {
  const client = pitwall.stack.client();
  const before = (await ends()).length;
  const [program = "", ...args] = pitwall.ssh.commandFor("visited");
  const child = spawn(program, [...args, "echo here; sleep 600"], { stdio: ["ignore", "pipe", "ignore"] });
  const gone = new Promise((resolve) => child.once("exit", resolve));
  expect((await createInterface({ input: child.stdout })[Symbol.asyncIterator]().next()).value).toBe("here");
  const { token, secret } = await client.projects.createToken({ role: ProjectRole.PROJECT_ROLE_MEMBER });
  const program2 = new Pitwall({ endpoint: pitwall.stack.endpoint, token: secret });
  const said = program2.exec("visited", { argv: ["sh", "-c", "echo here; sleep 600"] })[Symbol.asyncIterator]();
  expect((await said.next()).value).toMatchObject({ $case: "stdout" });

  const [key] = await client.listSshKeys();
  const taken = performance.now();
  await client.deleteSshKey(key?.fingerprint ?? "");
  await client.projects.revokeToken("", token?.id ?? "");
  await expect(said.next()).rejects.toMatchObject({ code: "PERMISSION_DENIED", reason: "ACCESS_REVOKED" });
  await gone;
  expect(performance.now() - taken).toBeLessThan(5_000);
  await expect.poll(ends, { timeout: 20_000, interval: 100 }).toHaveLength(before + 2);
  expect((await run([...pitwall.ssh.commandFor("visited"), "true"])).code).toBe(255);
  await client.addSshKey(key?.publicKey ?? "");
});

it("a session into a VM that is locked ends within seconds, and none begins until it is released", async () => {
  const { sessions } = pitwall.stack.client();
  const before = (await ends()).length;
  const [program = "", ...args] = pitwall.ssh.commandFor("visited");
  const child = spawn(program, [...args, "echo here; sleep 600"], { stdio: ["ignore", "pipe", "ignore"] });
  const gone = new Promise((resolve) => child.once("exit", resolve));
  expect((await createInterface({ input: child.stdout })[Symbol.asyncIterator]().next()).value).toBe("here");
  const locked = performance.now();
  await sessions.lockVm("visited", "under investigation");
  await gone;
  expect(performance.now() - locked).toBeLessThan(5_000);
  await expect.poll(ends, { timeout: 20_000, interval: 100 }).toHaveLength(before + 1);
  expect((await run([...pitwall.ssh.commandFor("visited"), "true"])).code).toBe(255);
  const said = pitwall.stack
    .client()
    .exec("visited", { argv: ["true"] })
    [Symbol.asyncIterator]();
  await expect(said.next()).rejects.toMatchObject({ code: "PERMISSION_DENIED", message: "the VM visited is locked: under investigation" });
  await sessions.unlockVm("visited");
  expect((await run([...pitwall.ssh.commandFor("visited"), "true"])).code).toBe(0);
});

it("a session whose gateway is killed is over in the log as soon as the gateway is back", async () => {
  const [program = "", ...args] = pitwall.ssh.commandFor("visited");
  const child = spawn(program, [...args, "echo here; sleep 600"], { stdio: ["ignore", "pipe", "ignore"] });
  const gone = new Promise((resolve) => child.once("exit", resolve));
  const { value } = await createInterface({ input: child.stdout })[Symbol.asyncIterator]().next();
  expect(value).toBe("here");
  expect(await pitwall.query("select id from access_session")).toHaveLength(1);
  process.kill(pitwall.stack.services.gateway.pid() ?? 0, "SIGKILL");
  await gone;
  await expect.poll(async () => (await ends()).at(-1)?.lost, { timeout: 30_000, interval: 100 }).toBe("the gateway ended");
  expect(await pitwall.query("select id from access_session")).toEqual([]);
});

it("sessions that are open when the gateway stops have their figures told before it is gone", async () => {
  const before = (await ends()).length;
  const [program = "", ...args] = pitwall.ssh.commandFor("visited");
  const child = spawn(program, [...args, "echo here; sleep 600"], { stdio: ["ignore", "pipe", "ignore"] });
  const { value } = await createInterface({ input: child.stdout })[Symbol.asyncIterator]().next();
  expect(value).toBe("here");
  process.kill(pitwall.stack.services.gateway.pid() ?? 0, "SIGTERM");
  await expect.poll(ends, { timeout: 30_000, interval: 100 }).toHaveLength(before + 1);
  expect((await ends()).at(-1)).toMatchObject({ fromVmBytes: expect.any(Number) as number, seconds: expect.any(Number) as number });
});
