// Hostile clients at the SSH door, beside good ones: what it refuses, and that it lets in who it should.
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { connect, type Socket } from "node:net";
import ssh2, { type Client, type ClientChannel } from "ssh2";
import { afterAll, beforeAll, expect, it, onTestFinished } from "vitest";
import { run } from "./support/run.ts";
import { startTestStack, type TestStack } from "./support/stack.ts";

const idleSeconds = 6;
const connections = 12;
/** Of this machine, and not of the exempt ones below. */
const elsewhere = "127.0.0.2";

let pitwall: TestStack;

beforeAll(async () => {
  const gateway = {
    PITWALL_SSH_PENALTY_EXEMPT: "127.0.0.1",
    PITWALL_SSH_IDLE_TIMEOUT: `${idleSeconds}s`,
    PITWALL_SSH_CHANNELS: "12",
    PITWALL_SSH_CONNECTIONS_PER_PRINCIPAL: String(connections),
    PITWALL_SSH_GREETING_TIMEOUT: "3s",
  };
  pitwall = await startTestStack({ env: { gateway } });
  await pitwall.stack.client().vms.create({ name: "door", spec: { image: pitwall.image } });
  await pitwall.stack.client().vms.wait("door");
});
afterAll(() => pitwall?.[Symbol.asyncDispose]());

function dial(localAddress: string): Socket {
  const socket = connect({ host: "127.0.0.1", port: pitwall.stack.ports.ssh, localAddress });
  socket.on("error", () => undefined).resume(); // whoever does not read does not see the end
  onTestFinished(() => void socket.destroy());
  return socket;
}

const closeOf = (client: Client): Promise<void> => new Promise((resolve) => client.once("close", () => resolve()));
const isGone = (socket: Socket): boolean => socket.closed;

/** Logged in with the key of the test's user. */
async function loggedIn(username: string): Promise<Client> {
  const { options } = pitwall.ssh;
  const privateKey = await readFile(options[options.indexOf("-i") + 1] ?? "", "utf8");
  const client = new ssh2.Client();
  onTestFinished(() => void client.destroy());
  client.connect({ host: "127.0.0.1", port: pitwall.stack.ports.ssh, username, privateKey, hostVerifier: () => true, strictVendor: false });
  client.on("error", () => undefined);
  await new Promise<void>((resolve, reject) => client.once("ready", resolve).once("close", () => reject(new Error("it was not let in"))));
  return client;
}

const exec = (client: Client, command: string): Promise<ClientChannel> =>
  new Promise((resolve, reject) => {
    void closeOf(client).then(() => reject(new Error("the connection has ended"))); // which the library does not tell otherwise
    client.exec(command, (error, channel) => (error ? reject(error) : resolve(channel)));
  });

it("cuts 2,000 silent connections while others log in", async () => {
  const silent: Socket[] = [];
  // Not all in one moment: those that the system's queue has no room for, the gateway never sees.
  for (let wave = 0; wave < 20; wave++) {
    const dialled = Array.from({ length: 100 }, () => dial("127.0.0.1"));
    await Promise.all(dialled.map((socket) => once(socket, "connect")));
    silent.push(...dialled);
  }
  for (let login = 0; login < 5; login++) {
    const { code, stderr } = await run([...pitwall.ssh.commandFor("door"), "true"]);
    expect(code, stderr).toBe(0);
  }
  await expect.poll(() => silent.filter((socket) => !isGone(socket)).length, { timeout: 30_000, interval: 200 }).toBe(0);
});

it("ends a connection with its seventh try to log in", async () => {
  let tries = 0;
  const client = new ssh2.Client();
  client.on("error", () => undefined);
  const closed = closeOf(client);
  client.connect({
    ...{ host: "127.0.0.1", port: pitwall.stack.ports.ssh, username: "door", hostVerifier: () => true },
    authHandler: (_left, _partial, next) => {
      tries++;
      next({ type: "password", username: "door", password: `guess ${tries}` });
    },
  });
  await closed;
  expect(tries).toBe(7);
});

it("refuses for a while a source that fails to log in again and again, and no other", async () => {
  const guess = (): Promise<unknown> => {
    const client = new ssh2.Client();
    client.on("error", () => undefined);
    const closed = closeOf(client);
    const sock = dial(elsewhere);
    client.connect({ sock, username: "door", password: "guess", hostVerifier: () => true });
    return closed;
  };
  /** What the server says to one who says nothing. */
  const greeting = async (): Promise<string> => {
    const socket = dial(elsewhere);
    let said = "";
    socket.once("data", (data: Buffer) => {
      said = data.toString("latin1");
      socket.destroy();
    });
    await new Promise((resolve) => socket.once("close", resolve));
    return said;
  };
  expect(await greeting()).toContain("pitwall");
  for (let connection = 0; connection < 4; connection++) await guess();
  // The gateway sees the end of a connection a moment after its client does.
  await expect.poll(greeting, { timeout: 10_000, interval: 500 }).toBe("");
  const { code, stderr } = await run([...pitwall.ssh.commandFor("door"), "true"]);
  expect(code, stderr).toBe(0);
});

it("opens ten sessions on a connection, and another when one has ended", async () => {
  const client = await loggedIn("door");
  const first = await exec(client, "while sleep 0.3; do echo; done"); // so that it is not idle, however slow this machine is
  for (let session = 1; session < 10; session++) await exec(client, "cat");
  await expect(exec(client, "true")).rejects.toThrow("Channel open failure");
  const closed = once(first.resume(), "close");
  first.close();
  await closed;
  const next = await exec(client, "echo here");
  const [said] = (await once(next, "data")) as [Buffer];
  expect(said.toString()).toBe("here\n");
});

it("closes one connection of a user too many at its login, and lets the next one in when another has ended", async () => {
  const clients = await Promise.all(Array.from({ length: connections }, () => loggedIn("door")));
  await expect(loggedIn("door")).rejects.toThrow("it was not let in");
  await expect(loggedIn("jump")).rejects.toThrow("it was not let in");
  const closed = closeOf(clients[0] ?? new ssh2.Client());
  clients[0]?.end();
  await closed;
  await expect
    .poll(
      async () =>
        loggedIn("door").then(
          () => "in",
          () => "out",
        ),
      { timeout: 10_000, interval: 200 },
    )
    .toBe("in");
});

it("counts forwards, too", async () => {
  const client = await loggedIn("door");
  const forward = (): Promise<ClientChannel> =>
    new Promise((resolve, reject) =>
      client.forwardOut("127.0.0.1", 0, "127.0.0.1", 22, (error, channel) => (error ? reject(error) : resolve(channel))),
    );
  for (let channel = 0; channel < 12; channel++) await forward();
  await expect(forward()).rejects.toThrow("Channel open failure");
});

/** Nothing that the gateway reaches, and nobody else should through it. */
const elsewheres: readonly (readonly [string, number])[] = [
  ...(
    [
      "10.0.2.2",
      "10.0.2.15",
      "169.254.169.254",
      "192.168.0.1",
      "0.0.0.0",
      "127.0.0.2",
      "::",
      "[::1]",
      "fe80::1",
      "::ffff:127.0.0.1",
    ] as const
  ).map((host) => [host, 22] as const),
  ...(["localhost.", "LOCALHOST", "2130706433", "0x7f000001", "017700000001", "127.1", "localhost.localdomain"] as const).map(
    (host) => [host, 22] as const,
  ),
  ["door", 23],
  ["other", 22],
  ["../door", 22],
];

it.each(["door", "jump"])("dials nothing else for who has logged in as %s", async (username) => {
  const client = await loggedIn(username);
  const forward = (host: string, port: number): Promise<string> =>
    new Promise((resolve) =>
      client.forwardOut("127.0.0.1", 0, host, port, (error) => resolve(error ? "refused" : `dialled ${host}:${port}`)),
    );
  // The door's own names of loopback are those of the VM.
  const own =
    username === "jump" ? [["127.0.0.1", pitwall.stack.ports.web] as const, ["localhost", 22] as const, ["::1", 22] as const] : [];
  const answers = await Promise.all([...elsewheres, ...own].map(async ([host, port]) => forward(host, port)));
  expect(answers).toEqual([...elsewheres, ...own].map(() => "refused"));
  const socket = await new Promise<string>((resolve) =>
    client.openssh_forwardOutStreamLocal("/run/x.sock", (error) => resolve(error ? "refused" : "dialled")),
  );
  expect(socket).toBe("refused");
});

it("cuts a client that sends more than it was granted", async () => {
  const client = await loggedIn("door");
  const channel = await exec(client, "sleep 600"); // reads nothing
  const { id } = Reflect.get(channel, "outgoing") as { id: number };
  const protocol = Reflect.get(client, "_protocol") as { channelData(id: number, data: Buffer): void };
  const closed = closeOf(client);
  let isOver = false;
  void closed.then(() => (isOver = true));
  for (let sent = 0; sent < 256 && !isOver; sent++) {
    for (let packet = 0; packet < 8; packet++) protocol.channelData(id, Buffer.alloc(32_000));
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  await closed;
});

it("ends a connection through which nothing passes, and says so", async () => {
  const { code, stderr } = await run([...pitwall.ssh.commandFor("door"), "sleep 600"]);
  expect(stderr).toContain(`pitwall: not a byte has passed for ${idleSeconds} s`);
  expect(code).toBe(255);
});

it("leaves a connection alone on which something moves now and then", async () => {
  const seconds = idleSeconds * 2;
  const { code, stdout, stderr } = await run([
    ...pitwall.ssh.commandFor("door"),
    `i=0; while [ $i -lt ${seconds} ]; do sleep 1; echo; i=$((i+1)); done`,
  ]);
  expect(code, stderr).toBe(0);
  expect(stdout).toHaveLength(seconds);
});

it("speaks what an auditor of SSH servers has nothing against, but that it does not know the counter-measure to Terrapin", async () => {
  const { stdout } = await run(["ssh-audit", "--batch", "-n", "-p", String(pitwall.stack.ports.ssh), "127.0.0.1"]);
  expect(stdout).toContain("curve25519-sha256");
  const findings = stdout.split("\n").filter((line) => /\[(?:warn|fail)\]/.test(line));
  expect(findings.map((line) => line.replaceAll(/ +/g, " "))).toEqual(["(kex) kex-strict-s-v00@openssh.com -- [warn] unknown algorithm"]);
});
