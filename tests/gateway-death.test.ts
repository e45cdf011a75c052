// A gateway that dies, and one that is told to stop, under 200 streams and sessions: clients go on at another one, and nothing is lost.
import { readFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { Pitwall, type PitwallRpcError } from "@pitwall/sdk";
import ssh2, { type Client, type ClientChannel } from "ssh2";
import { afterAll, beforeAll, expect, it, onTestFinished } from "vitest";
import { run } from "./support/run.ts";
import { startSecondGateway, type SecondGateway } from "./support/second-gateway.ts";
import { startTestStack, type TestStack } from "./support/stack.ts";

const watches = 120;
const attached = 40;
const connections = 5;
const sessionsEach = 8;
const changes = 60;
const changeEveryMs = 50;
/** docs/gateway.md: a gateway that stops is gone after that, whatever is under way. */
const drainLimitMs = 30_000;
/** After the last change, which others wait for too on a machine that has much to do. */
const backLimitMs = 15_000;
/** Sixty changes that 121 watches hear of, and logins to an emulated VM, on a machine whose processors are both busy. */
const wholeLimitMs = 300_000;
const loginLimitMs = 60_000;

let pitwall: TestStack;

beforeAll(async () => {
  pitwall = await startTestStack();
  await pitwall.stack.client().vms.create({ name: "box", spec: { image: pitwall.image } });
  await pitwall.stack.client().vms.wait("box");
});
afterAll(() => pitwall?.[Symbol.asyncDispose]());

async function gateway(name: string): Promise<SecondGateway> {
  const second = await startSecondGateway(pitwall, name);
  onTestFinished(() => second[Symbol.asyncDispose]());
  return second;
}

/** A client of both, which begins with the one that will go. */
function clientOf(second: SecondGateway, onRetry?: (error: PitwallRpcError) => void): Pitwall {
  const { stack } = pitwall;
  return new Pitwall({ endpoint: [second.endpoint, stack.endpoint], token: () => stack.token(), ...(onRetry && { onRetry }) });
}

/** What a watch of the VM is told from the first change on to the last: each version of it (each has an etag), with the label's number. */
async function watched(client: Pitwall, label: string, signal: AbortSignal, ready: () => void): Promise<string[]> {
  const seen: string[] = [];
  let isFirst = true;
  for await (const { vm } of client.vms.watch({ vm: "box", signal })) {
    if (isFirst) ready();
    isFirst = false;
    const n = vm.spec?.labels[label];
    if (n !== undefined) seen.push(`${vm.etag}: ${n}`);
    // The node says of the last change, too, that it has it.
    if (Number(n) === changes && vm.observedGeneration === vm.generation) break;
  }
  return seen;
}

/** Follows a command's output over WebSocket to its end, from the beginning again whenever the way to it ends. */
async function followed(client: Pitwall, execId: string, signal: AbortSignal, ready: () => void): Promise<string> {
  while (!signal.aborted) {
    let said = "";
    try {
      for await (const each of client.attachExec("box", execId, { signal })) {
        if (each.$case === "stdout") said += Buffer.from(each.value).toString();
        if (each.$case === "exit") return said;
        ready();
      }
    } catch (error) {
      if (!signal.aborted && (!(error instanceof Error) || !("code" in error) || error.code !== "UNAVAILABLE")) throw error;
    }
    await sleep(100);
  }
  return "the test has ended";
}

async function login(port: number): Promise<Client> {
  const { options } = pitwall.ssh;
  const privateKey = await readFile(options[options.indexOf("-i") + 1] ?? "", "utf8");
  const client = new ssh2.Client();
  onTestFinished(() => void client.destroy());
  client.on("error", () => undefined);
  client.connect({ host: "127.0.0.1", port, username: "box", privateKey, hostVerifier: () => true, readyTimeout: loginLimitMs });
  await new Promise<void>((resolve, reject) => client.once("ready", resolve).once("close", () => reject(new Error("it was not let in"))));
  return client;
}

const open = (client: Client): Promise<ClientChannel> =>
  new Promise((resolve, reject) => client.exec("cat", (error, channel) => (error ? reject(error) : resolve(channel))));

const closes = (channel: ClientChannel): Promise<void> =>
  new Promise((resolve) =>
    channel
      .on("error", () => undefined)
      .resume()
      .once("close", () => resolve()),
  );

/** Sessions through this port; each resolves when it is over. */
async function sessions(port: number): Promise<Promise<void>[]> {
  const clients = await Promise.all(Array.from({ length: connections }, () => login(port)));
  const channels = await Promise.all(clients.flatMap((client) => Array.from({ length: sessionsEach }, () => open(client))));
  return channels.map(closes);
}

/** All of it, through a gateway that `end` puts to an end amid the changes. */
async function survive(second: SecondGateway, label: string, end: () => void): Promise<void> {
  const client = clientOf(second);
  const { stack } = pitwall;
  // A test that fails takes its streams with it: the next one, and the end of the stack, would be told of theirs.
  const stop = new AbortController();
  onTestFinished(() => stop.abort());
  const { signal } = stop;
  const script = `i=0; until [ -e /tmp/${label} ]; do i=$((i+1)); echo $i; sleep 0.2; done`;
  const execId = await stack.client().startExec("box", { argv: ["sh", "-c", script] });
  let isReady: (() => void) | undefined;
  const counted = (count: number): { all: Promise<void>; one: () => void } => {
    const all = new Promise<void>((resolve) => (isReady = resolve));
    const done = isReady;
    let left = count;
    return { all, one: () => void (--left === 0 && done?.()) };
  };
  const [watching, following] = [counted(watches), counted(attached)];
  const seen = Array.from({ length: watches }, async () => watched(client, label, signal, watching.one));
  const undisturbed = watched(stack.client(), label, signal, () => undefined);
  const said = Array.from({ length: attached }, async () => {
    let isFirst = true;
    return followed(client, execId, signal, () => {
      if (isFirst) following.one();
      isFirst = false;
    });
  });
  const going = Promise.all([...seen, undisturbed, ...said]);
  going.catch(() => undefined); // it is heard below, unless something else has failed before
  const over = await sessions(second.sshPort);
  await Promise.race([Promise.all([watching.all, following.all]), going]);
  process.stderr.write(`${watches} watches, ${attached} streams over WebSocket and ${over.length} sessions are open\n`);

  let endedMs = 0;
  for (let n = 1; n <= changes; n++) {
    if (n === changes / 3) {
      endedMs = performance.now();
      end();
    }
    await client.vms.update("box", { labels: { [label]: String(n) } });
    await sleep(changeEveryMs);
  }
  const changedMs = performance.now();
  process.stderr.write(`${(changes * 2) / 3} changes took ${Math.round(changedMs - endedMs)} ms\n`);
  const expected = await undisturbed;
  expect(new Set(expected.map((version) => version.split(": ")[1])).size).toBe(changes);
  expect(new Set(expected).size).toBe(expected.length);
  for (const all of await Promise.all(seen)) expect(all).toEqual(expected);
  await Promise.all(over);
  const again = await sessions(stack.ports.ssh);
  const backMs = performance.now() - changedMs;
  process.stderr.write(`all are back ${Math.round(backMs)} ms after the last\n`);
  expect(again.length).toBe(over.length);
  expect(backMs).toBeLessThan(backLimitMs);
  expect(await run([...pitwall.ssh.commandFor("box"), `touch /tmp/${label}`])).toMatchObject({ code: 0 });
  const [first = "", ...others] = await Promise.all(said);
  const lines = first.trim().split("\n").map(Number);
  expect(lines).toEqual(lines.map((_, at) => at + 1));
  for (const other of others) expect(other).toBe(first);
}

it("is killed: clients are at another one within seconds, and watches have missed nothing", { timeout: wholeLimitMs }, async () => {
  const second = await gateway("killed");
  await survive(second, "killed", () => process.kill(second.pid, "SIGKILL"));
  expect(await second.ended).toBe("SIGKILL");
});

it("is told to stop: it is gone in time, and of the calls that never pause none fails", { timeout: wholeLimitMs }, async () => {
  const second = await gateway("stopped");
  const retried: string[] = [];
  const client = clientOf(second, ({ message }) => void retried.push(message));
  let isOver = false;
  let calls = 0;
  const callers = Array.from({ length: 4 }, async () => {
    while (!isOver) {
      await client.vms.get("box");
      calls++;
    }
  });
  let toldMs = 0;
  const gone = second.ended.then((code) => ({ code, afterMs: performance.now() - toldMs }));
  try {
    await survive(second, "stopped", () => {
      toldMs = performance.now();
      process.kill(second.pid, "SIGTERM");
    });
  } finally {
    isOver = true;
  }
  await Promise.all(callers); // which would reject
  const { code, afterMs } = await gone;
  process.stderr.write(
    `${calls} calls, of which ${retried.length} were made again; the gateway was gone after ${Math.round(afterMs)} ms\n`,
  );
  expect({ code, isInTime: afterMs < drainLimitMs }).toEqual({ code: 0, isInTime: true });
  // What was made again had not been taken: an answer that was under way would break off in the middle.
  for (const why of retried) expect(why).toMatch(/fetch failed|the gateway is stopping/);
});
