// A gateway of two processes in front of real VMs: ways in through both, and what is left when one of them is killed.
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { createInterface } from "node:readline";
import { afterAll, beforeAll, expect, it } from "vitest";
import { run } from "./support/run.ts";
import { startTestStack, type TestStack } from "./support/stack.ts";

let pitwall: TestStack;

beforeAll(async () => {
  pitwall = await startTestStack({ env: { gateway: { PITWALL_WORKERS: "2" } } });
  await pitwall.stack.client().vms.create({ name: "shared", spec: { image: pitwall.image } });
  await pitwall.stack.client().vms.wait("shared");
});
afterAll(() => pitwall?.[Symbol.asyncDispose]());

async function workers(): Promise<number[]> {
  const pid = pitwall.stack.services.gateway.pid() ?? 0;
  return (await readFile(`/proc/${pid}/task/${pid}/children`, "utf8")).split(" ").filter(Boolean).map(Number);
}

/** A session that has said something, and stays. */
async function session(): Promise<{ child: ChildProcess; isOver: () => boolean }> {
  const [program = "", ...args] = pitwall.ssh.commandFor("shared");
  const child = spawn(program, [...args, "echo here; exec cat"], { stdio: ["pipe", "pipe", "ignore"] });
  expect((await createInterface({ input: child.stdout })[Symbol.asyncIterator]().next()).value).toBe("here");
  return { child, isOver: () => child.exitCode !== null || child.signalCode !== null };
}

const openSessions = async (): Promise<number> => (await pitwall.query("select id from access_session")).length;
const lost = async (): Promise<number> =>
  (await pitwall.query("select from audit_entry where action = 'AccessService/EndSessions' and detail->>'lost' = 'the gateway ended'"))
    .length;

it("lets in through each of them, by SSH and by the API", async () => {
  const logins = await Promise.all(Array.from({ length: 6 }, () => run([...pitwall.ssh.commandFor("shared"), "echo in"])));
  expect(logins.map(({ code, stdout }) => [code, stdout])).toEqual(Array.from({ length: 6 }, () => [0, "in\n"]));
  const client = pitwall.stack.client();
  for (let n = 0; n < 4; n++) {
    let output = "";
    for await (const said of client.exec("shared", { argv: ["echo", "ran"] }))
      if (said.$case === "stdout") output += String(Buffer.from(said.value));
    expect(output).toBe("ran\n");
  }
});

it("when one is killed its sessions end, and are closed in the log as lost; those of the other go on", async () => {
  await expect.poll(openSessions, { timeout: 10_000 }).toBe(0);
  const sessions = await Promise.all(Array.from({ length: 4 }, session));
  expect(await openSessions()).toBe(4);
  const [victim = 0, other] = await workers();
  process.kill(victim, "SIGKILL");
  await expect.poll(() => sessions.filter(({ isOver }) => isOver()).length, { timeout: 10_000 }).toBe(2);
  await expect.poll(async () => [await openSessions(), await lost()], { timeout: 10_000 }).toEqual([2, 2]);
  for (const { child } of sessions.filter(({ isOver }) => !isOver())) {
    const gone = once(child, "exit");
    child.stdin?.end();
    expect(await gone).toEqual([0, null]);
  }
  await expect.poll(async () => (await workers()).length, { timeout: 20_000 }).toBe(2);
  expect(await workers()).toContain(other);
  const logins = await Promise.all(Array.from({ length: 4 }, () => run([...pitwall.ssh.commandFor("shared"), "true"])));
  expect(logins.map(({ code }) => code)).toEqual([0, 0, 0, 0]);
  await expect.poll(openSessions, { timeout: 10_000 }).toBe(0);
  expect(await lost()).toBe(2);
});
