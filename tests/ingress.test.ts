// Ports of VMs as people reach them: `pitwall publish`, `url` and `port-forward`, with curl, sockets and a browser's headers, through a whole stack
// with simulated VMs: port 80 says who it is, others echo.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { connect, createServer, type AddressInfo, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from "vitest";
import { run, type Ended } from "./support/run.ts";
import { startTestStack, type TestStack } from "./support/stack.ts";

const bin = join(import.meta.dirname, "..", "node_modules", ".bin", "pitwall");
/** What a change may take until it is felt by what is open. */
const revokedMs = 5_000;

/** How long a gateway lets ways stay open while no controller answers: minutes, but here. */
const staleMs = 3_000;
/** To that come the questions in between, and how long the gateway waits for an answer. */
const unheardMs = 2_000 + 5_000 + 3_000;

let pitwall: TestStack;
let dir: string;
let env: Record<string, string>;
let vmId: string;

const cli = (...args: string[]): Promise<Ended> => run([bin, ...args], { env });
/** curl takes names below localhost for this machine, as browsers do. */
const curl = async (...args: string[]): Promise<string> => (await run(["curl", "-s", "-w", " %{http_code}", ...args])).stdout;
const served = (): unknown => expect.stringContaining(vmId);

beforeAll(async () => {
  pitwall = await startTestStack({ env: { node: { PITWALL_DRIVER: "sim" }, gateway: { PITWALL_STALE_AFTER: `${staleMs}ms` } } });
  dir = await mkdtemp(join(tmpdir(), "pitwall-ingress-"));
  env = { XDG_CONFIG_HOME: dir, PITWALL_ENDPOINT: pitwall.stack.endpoint, PITWALL_TOKEN: await pitwall.stack.token(), NO_COLOR: "1" };
  await pitwall.stack.client().vms.create({ name: "web", spec: { image: pitwall.image } });
  vmId = (await pitwall.stack.client().vms.wait("web")).id;
});

afterAll(async () => {
  await pitwall?.[Symbol.asyncDispose]();
  await rm(dir, { recursive: true, force: true });
});

const hostOf = (label: string): string => `http://${label}.vms.localhost:${pitwall.stack.ports.web}/`;

describe("a port of a VM", () => {
  it("is private: a token opens it by the VM's id, on HTTP/1.1 and HTTP/2, and nobody else comes in", async () => {
    const token = ["-H", `authorization: Bearer ${await pitwall.stack.token()}`];
    expect(await curl(...token, hostOf(vmId))).toEqual(served());
    expect(await curl("--http2-prior-knowledge", ...token, hostOf(vmId))).toEqual(served());
    expect(await curl(hostOf(vmId))).toMatch(/open to whoever is let in.* 401$/s);
    expect(await curl(...token, hostOf("web"))).toMatch(/there is no VM "web".* 404$/s);
  });

  it("is everybody's once it is published, until it is not; what is open then ends", async () => {
    expect(await cli("publish", "web", "--host", "web")).toMatchObject({ code: 0, stdout: `${hostOf("web")}\n` });
    expect(await curl(hostOf("web"))).toEqual(served());
    expect(await curl(hostOf("7-web"))).toMatch(/ 401$/);
    expect(await cli("publish", "web", "--port", "7")).toMatchObject({ code: 0, stdout: `${hostOf("7-web")}\n` });
    const open = await tcpTo("7-web");
    open.write("echo");
    expect(String((await once(open, "data"))[0])).toBe("echo");
    expect(await cli("unpublish", "web", "--port", "7")).toMatchObject({ code: 0, stderr: "port 7 of web is private\n" });
    const since = performance.now();
    await once(open.resume(), "close");
    expect(performance.now() - since).toBeLessThan(revokedMs);
    expect(await curl(hostOf("web"))).toEqual(served());
    expect((await cli("get", "web")).stdout).toMatch(/^Public ports +80$/m);
    expect(await cli("unpublish", "web", "--all")).toMatchObject({ code: 0 });
    expect(await curl(hostOf("web"))).toMatch(/ 401$/);
  });

  it("that is somebody's name below the domain is nobody else's", async () => {
    await pitwall.stack.client().vms.create({ name: "other", spec: { image: pitwall.image } });
    expect(await cli("publish", "other", "--host", "web")).toMatchObject({
      code: 1,
      stderr: expect.stringContaining("--host: web is the name of another VM") as string,
    });
  });

  it("has the address that `pitwall url` prints, which lets a browser in and is left at once", async () => {
    const { stdout } = await cli("url", "web", "--expires", "10m", "--path", "/page?a=b");
    expect(stdout).toMatch(/^http:\/\/web\.vms\.localhost:\d+\/page\?a=b&pitwall-grant=pwg_[\w-]+\n$/);
    const url = stdout.trim();
    const seen = await run(["curl", "-s", "-i", url]);
    expect(seen.stdout).toMatch(/^HTTP\/1\.1 303 /);
    expect(seen.stdout).toMatch(/^location: \/page\?a=b\r$/m);
    const cookie = /^set-cookie: (__Host-pitwall-grant=[^;]+); Path=\/; Max-Age=(?:600|5\d\d); Secure; HttpOnly; SameSite=Lax\r$/m.exec(
      seen.stdout,
    )?.[1];
    expect(await curl("-H", `cookie: ${cookie}`, hostOf("web"))).toEqual(served());
    expect(await curl("-H", `cookie: ${cookie}`, hostOf("7-web"))).toMatch(/ 401$/);
    expect(await curl("-H", `cookie: ${cookie}`, "-H", "origin: http://other.vms.localhost", "-d", "x", hostOf("web"))).toMatch(/ 401$/);
    const expired = await cli("url", "web", "--expires", "1s");
    await expect.poll(() => curl(expired.stdout.trim()), { timeout: 5_000 }).toMatch(/ 403$/);
  });
});

/** TCP by the gateway's own upgrade, as nobody. */
async function tcpTo(label: string): Promise<Socket> {
  const socket = connect(pitwall.stack.ports.web, "127.0.0.1");
  socket.on("error", () => undefined);
  onTestFinished(() => void socket.destroy());
  socket.write(`GET / HTTP/1.1\r\nhost: ${label}.vms.localhost\r\nconnection: Upgrade\r\nupgrade: pitwall-tcp\r\n\r\n`);
  expect(String((await once(socket, "data"))[0])).toMatch(/^HTTP\/1\.1 101 /);
  return socket;
}

describe("pitwall port-forward", () => {
  /** Says what it said on stdout, line by line. */
  async function forwarding(
    count: number,
    ...args: string[]
  ): Promise<{ ports: number[]; errors: () => string; stop: () => Promise<number | null> }> {
    const child = spawn(bin, ["port-forward", ...args], { env: { ...process.env, ...env }, stdio: ["ignore", "pipe", "pipe"] });
    onTestFinished(() => void child.kill("SIGKILL"));
    let errors = "";
    child.stderr.on("data", (chunk) => (errors += String(chunk)));
    const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    const ports: number[] = [];
    for (let at = 0; at < count; at++)
      ports.push(Number(/^127\.0\.0\.1:(\d+) leads to port \d+ of web$/.exec(String((await lines.next()).value))?.[1]));
    const ended = once(child, "exit") as Promise<[number | null]>;
    return {
      ports,
      errors: () => errors,
      async stop() {
        child.kill("SIGINT");
        return (await ended)[0];
      },
    };
  }

  async function echoed(port: number, text: string): Promise<string> {
    const socket = connect(port, "127.0.0.1");
    socket.on("error", () => undefined);
    try {
      socket.write(text);
      let heard = "";
      for await (const chunk of socket) if ((heard += String(chunk)).length >= text.length) break;
      return heard;
    } catch {
      return "";
    } finally {
      socket.destroy();
    }
  }

  it("leads several ports into the VM, reaches it again when the gateway is back, and ends by Ctrl-C", { timeout: 90_000 }, async () => {
    const forward = await forwarding(2, "web", ":7", ":80");
    const [echo = 0, web = 0] = forward.ports;
    const large = "x".repeat(300_000);
    expect(await echoed(echo, large)).toBe(large);
    expect((await Promise.all(["a", "b", "c"].map((text) => echoed(echo, text)))).join("")).toBe("abc");
    expect(await curl(`http://127.0.0.1:${web}/`)).toEqual(served());
    const open = connect(echo, "127.0.0.1");
    open.on("error", () => undefined).write("x");
    await once(open, "data");
    process.kill(pitwall.stack.services.gateway.pid() ?? 0, "SIGKILL");
    await once(open.resume(), "close");
    await expect.poll(() => echoed(echo, "again"), { timeout: 40_000, interval: 500 }).toBe("again");
    expect(await forward.stop()).toBe(0);
    await expect(once(connect(echo, "127.0.0.1"), "connect")).rejects.toThrow("ECONNREFUSED");
  });

  it("says why a connection came to nothing, and goes on", async () => {
    const forward = await forwarding(1, "web", ":80");
    await cli("stop", "web");
    expect(await echoed(forward.ports[0] ?? 0, "GET / HTTP/1.1\r\n\r\n")).toBe("");
    await expect.poll(forward.errors, { timeout: 20_000 }).toMatch(/^port 80 of web: the VM web is (?:not running|still starting)/m);
    await cli("start", "web");
    await pitwall.stack.client().vms.wait("web");
    expect(await echoed(forward.ports[0] ?? 0, "GET / HTTP/1.1\r\n\r\n")).toContain("200 OK");
    expect(await forward.stop()).toBe(0);
  });

  it("refuses ports that it cannot have, VMs that are not there, and what is no port", async () => {
    const taken = createServer().listen(0, "127.0.0.1");
    onTestFinished(() => void taken.close());
    await once(taken, "listening");
    const { port } = taken.address() as AddressInfo; // it listens on TCP
    expect(await cli("port-forward", "web", `${port}:80`)).toMatchObject({
      code: 1,
      stderr: expect.stringContaining(`cannot listen on 127.0.0.1:${port}: another program has it`) as string,
    });
    expect((await cli("port-forward", "nobody", ":80")).stderr).toMatch(/there is no VM "nobody"/);
    expect(await cli("port-forward", "web", "80:x")).toMatchObject({ code: 2, stderr: expect.stringContaining("Expected PORT") as string });
  });
});

describe("a gateway that no controller answers", () => {
  it("ends what is open in the end, opens nothing new, and serves again when one is back", { timeout: 120_000 }, async () => {
    const controller = pitwall.stack.services.controller.pid() ?? 0;
    await cli("publish", "web", "--port", "7");
    const open = await tcpTo("7-web");
    const closed = once(open.resume(), "close");
    process.kill(controller, "SIGSTOP");
    onTestFinished(() => void process.kill(controller, "SIGCONT"));
    const since = performance.now();
    await closed;
    const tookMs = performance.now() - since;
    expect(tookMs).toBeGreaterThan(staleMs - 2_500); // it was let in when it was asked for last, before that
    expect(tookMs).toBeLessThan(staleMs + unheardMs);
    expect(await curl("--max-time", "90", hostOf("web"))).toMatch(/ 50[34]$/);
    process.kill(controller, "SIGCONT");
    await expect
      .poll(async () => curl("-H", `authorization: Bearer ${await pitwall.stack.token()}`, hostOf("web")), { timeout: 40_000 })
      .toEqual(served());
    await expect.poll(async () => (await tcpTo("7-web").catch(() => undefined))?.destroyed, { timeout: 40_000 }).toBe(false);
  });
});
