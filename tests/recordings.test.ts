// SSH sessions that are recorded, with stock clients before real VMs: what their users see of that, what is kept, and that without a
// recording there is no session.
import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { RecordingState, type Recording } from "@pitwall/sdk";
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from "vitest";
import { run, type Ended } from "./support/run.ts";
import { startTestStack, type TestStack } from "./support/stack.ts";

const bin = join(import.meta.dirname, "..", "node_modules", ".bin", "pitwall");
const notice =
  "pitwall: what this session shows is recorded, and owners of the VM's project may watch it as it happens; by going on you consent\r\n";
/** More than a client is granted at once (2 MiB), so that one that does not read holds a session up. */
const recordingBytes = 4 * 2 ** 20;
const { RECORDING_STATE_ENDED: ended, RECORDING_STATE_CUT: cut } = RecordingState;

let pitwall: TestStack;
let dir: string;
let env: Record<string, string>;
let project: string;

beforeAll(async () => {
  pitwall = await startTestStack({ env: { controller: { PITWALL_RECORDING_LIMIT: String(recordingBytes) } } });
  dir = await mkdtemp(join(tmpdir(), "pitwall-recordings-"));
  env = { XDG_CONFIG_HOME: dir, PITWALL_ENDPOINT: pitwall.stack.endpoint, PITWALL_TOKEN: await pitwall.stack.token(), NO_COLOR: "1" };
  const client = pitwall.stack.client();
  const vm = await client.vms.create({ name: "seen", spec: { image: pitwall.image } });
  project = vm.project;
  await client.vms.wait("seen");
  expect((await cli("project", "update", project, "--record-sessions", "on")).stdout).toMatch(/SSH sessions +are recorded/);
});
afterAll(async () => {
  await pitwall?.[Symbol.asyncDispose]();
  await rm(dir, { recursive: true, force: true });
});

const cli = (...args: string[]): Promise<Ended> => run([bin, ...args], { env });
const ssh = (...words: string[]): Promise<Ended> => run([...pitwall.ssh.commandFor("seen"), ...words]);

/** The newest, once it is not live any more. */
async function latest(): Promise<Recording> {
  const newest = async (): Promise<Recording | undefined> => {
    for await (const recording of pitwall.stack.client().sessions.recordings()) return recording;
    return undefined;
  };
  await expect.poll(async () => (await newest())?.state, { timeout: 30_000, interval: 100 }).not.toBe(RecordingState.RECORDING_STATE_LIVE);
  const recording = await newest();
  if (!recording) throw new Error("there is no recording");
  return recording;
}

/** Its events. */
async function eventsOf({ id }: Recording): Promise<[number, string, string][]> {
  const file = join(dir, "cast");
  expect(await cli("recordings", "export", id, file)).toMatchObject({ code: 0, stderr: "" });
  const [header = "", ...lines] = (await readFile(file, "utf8")).split("\n").filter((line) => line !== "");
  expect(JSON.parse(header)).toMatchObject({ version: 2, title: "root@seen" });
  return lines.map((line) => JSON.parse(line) as [number, string, string]);
}
const shownOf = async (recording: Recording): Promise<string> =>
  (await eventsOf(recording)).flatMap(([, code, data]) => (code === "o" ? [data] : [])).join("");

interface Underway {
  readonly exit: Promise<number | null>;
  /** What it has said so far. */
  stdout(): string;
  stderr(): string;
  type(text: string): void;
}

function started(program: string, args: readonly string[]): Underway {
  const child = spawn(program, args, { stdio: ["pipe", "pipe", "pipe"], env: { ...process.env, ...env } });
  onTestFinished(() => void child.kill("SIGKILL"));
  const said = { stdout: "", stderr: "" };
  child.stdout.setEncoding("utf8").on("data", (text: string) => (said.stdout += text));
  child.stderr.setEncoding("utf8").on("data", (text: string) => (said.stderr += text));
  return {
    exit: new Promise((resolve) => child.once("close", resolve)),
    stdout: () => said.stdout,
    stderr: () => said.stderr,
    type: (text) => void child.stdin.write(text),
  };
}

/** `ssh`, with flags, and a command or none. */
function begin(flags: readonly string[], ...words: string[]): Underway {
  const [program = "", ...args] = pitwall.ssh.commandFor("seen");
  return started(program, [...flags, ...args, ...words]);
}

/** A session that goes on, once it has said so. */
async function lasting(command: string): Promise<Underway> {
  const session = begin([], command);
  await expect.poll(session.stdout, { timeout: 30_000, interval: 50 }).toContain("here");
  return session;
}

describe("a recorded session", () => {
  it("tells so before its first byte, and is kept as it was shown, its input is not", async () => {
    const child = begin(["-tt"]);
    await expect.poll(child.stdout, { timeout: 30_000, interval: 50 }).toMatch(/[#$] $/);
    child.type("stty -echo; printf '\\033[31mre''d\\033[0m\\n'; read -r secret; exit 3\n");
    await expect.poll(child.stdout, { timeout: 30_000, interval: 50 }).toContain("red");
    child.type("hunter2\n");
    expect(await child.exit).toBe(3);
    const [stdout, stderr] = [child.stdout(), child.stderr()];
    expect(stderr).toContain(notice);
    expect(stdout).not.toContain("hunter2");
    const recording = await latest();
    expect(recording).toMatchObject({ vm: "seen", user: "root", command: "", hasTerminal: true, state: ended, end: "exit code 3" });
    expect(await shownOf(recording)).toBe(stdout);
    expect(stdout).toContain("\u001b[31mred\u001b[0m");
    expect((await eventsOf(recording)).at(-1)).toEqual([expect.any(Number), "m", "exit code 3"]);
  });

  it("of a command has its own stdout byte for byte, and the notice on stderr", async () => {
    const bytes = randomBytes(50_000).toString("base64");
    const { code, stdout, stderr } = await run([...pitwall.ssh.commandFor("seen"), "cat; echo err >&2; exit 7"], { input: bytes });
    expect({ code, stdout }).toEqual({ code: 7, stdout: bytes });
    expect(stderr).toContain(`${notice}err\n`);
    const recording = await latest();
    expect(recording).toMatchObject({ command: "cat; echo err >&2; exit 7", hasTerminal: false, end: "exit code 7" });
    expect((await shownOf(recording)).replace("err\n", "")).toBe(bytes);
  });

  it("moves files by SFTP byte for byte, of which only that it did is kept", async () => {
    const [sent, back] = [join(dir, "sent"), join(dir, "back")];
    const bytes = randomBytes(recordingBytes + 1);
    await writeFile(sent, bytes);
    const scp = ["scp", ...pitwall.ssh.options, "-P", String(pitwall.stack.ports.ssh)];
    expect((await run([...scp, sent, "seen@127.0.0.1:/root/moved"])).code).toBe(0);
    expect((await run([...scp, "seen@127.0.0.1:/root/moved", back])).code).toBe(0);
    expect((await readFile(back)).equals(bytes)).toBe(true);
    const recording = await latest();
    expect(recording).toMatchObject({ command: "subsystem sftp", state: ended });
    expect(await shownOf(recording)).toBe("");
  });

  it("ends when its recording is as long as one may be, and says so", async () => {
    const { code, stdout, stderr } = await ssh("head -c 9000000 /dev/zero | tr '\\0' x");
    expect(code).toBe(255);
    expect(stderr).toContain(`pitwall: the session's recording holds ${recordingBytes} bytes, the most that one may\r\n`);
    expect(stdout.length).toBeLessThan(9_000_000);
    expect(await latest()).toMatchObject({ state: ended, end: expect.stringContaining("the most that one may") as string });
  });

  it("loses nothing to a client that reads slowly", async () => {
    const { stdout } = await run([
      "sh",
      "-c",
      '"$@" | { sleep 2; wc -c; }',
      "sh",
      ...pitwall.ssh.commandFor("seen"),
      "head -c 3500000 /dev/zero | tr '\\0' x",
    ]);
    expect(stdout.trim()).toBe("3500000");
  });

  it("is replayed as text into a pipe, listed, shown and removed", async () => {
    await ssh("echo for the record");
    const { id } = await latest();
    expect((await cli("recordings", "replay", id, "--speed", "4")).stdout).toBe("for the record\n");
    expect((await cli("recordings", "ls", "-n", "1")).stdout).toMatch(
      new RegExp(`^ID .*COMMAND\n${id} +seen .* ended .* echo for the record\n$`),
    );
    expect((await cli("recordings", "show", id)).stdout).toMatch(/^End +exit code 0$/m);
    expect((await cli("recordings", "rm", id)).code).toBe(0);
    expect((await cli("recordings", "show", id)).stderr).toContain("has no recording");
  });
});

describe("ways that the gateway cannot read", () => {
  it("are refused with the way that works, and pitwall ssh takes that one", async () => {
    const { options } = pitwall.ssh;
    const jump = await run(["ssh", ...options, "-p", String(pitwall.stack.ports.ssh), "-W", "seen:22", "jump@127.0.0.1"]);
    expect(jump.code).not.toBe(0);
    expect(jump.stderr).toContain("log in as ssh seen@GATEWAY, or with pitwall ssh");
    const { code, stdout, stderr } = await cli("ssh", "seen", "--", "echo in; exit 7");
    expect({ code, stdout }).toEqual({ code: 7, stdout: "in\n" });
    expect(stderr).toContain(notice);
    expect(await latest()).toMatchObject({ command: "echo in; exit 7" });
    expect((await cli("ssh-config", "seen")).stdout).not.toContain("ProxyCommand");
  });
});

describe("an open session", () => {
  it("is joined read-only while it goes on, and ended", async () => {
    const child = await lasting("echo here; n=0; while sleep 0.2; do n=$((n+1)); echo step $n; done");
    const [session] = (JSON.parse((await cli("sessions", "ls", "-o", "json")).stdout) as { id: string; way: string }[]).filter(
      ({ way }) => way === "door",
    );
    const id = session?.id ?? "";
    const watcher = started(bin, ["sessions", "join", id]);
    await expect.poll(watcher.stdout, { timeout: 30_000, interval: 50 }).toMatch(/^here\nstep 1\n[^]*step 8\n/);
    expect((await cli("sessions", "end", id)).code).toBe(0);
    const asked = performance.now();
    expect(await child.exit).toBe(255);
    expect(performance.now() - asked).toBeLessThan(5_000);
    expect(await watcher.exit).toBe(0);
    expect(await latest()).toMatchObject({ state: ended, end: "the way into the VM has ended" });
  });

  it("ends with a lock on its VM, which is listed until it is released", async () => {
    const child = await lasting("echo here; sleep 600");
    expect((await cli("lock", "vm", "seen", "--reason", "under investigation")).code).toBe(0);
    expect(await child.exit).toBe(255);
    expect((await cli("lock", "ls")).stdout).toMatch(/\nseen .* under investigation\n$/);
    expect(await cli("ssh", "seen", "--", "true")).toMatchObject({
      code: 1,
      stderr: expect.stringContaining("the VM seen is locked: under investigation") as string,
    });
    expect((await cli("lock", "release-vm", "seen")).code).toBe(0);
    expect((await cli("ssh", "seen", "--", "true")).code).toBe(0);
  });

  it("ends when what it shows cannot be stored, and no other begins", async () => {
    await pitwall.query("alter table recording_part rename to recording_part_away");
    onTestFinished(async () => void (await pitwall.query("alter table if exists recording_part_away rename to recording_part")));
    const { code, stderr } = await ssh("echo here; sleep 60");
    expect(code).toBe(255);
    expect(stderr).toContain("pitwall: the session's recording cannot be stored\r\n");
  });

  it("whose gateway is killed leaves a recording that is cut, with what it showed", async () => {
    const child = await lasting("echo here; sleep 700");
    const stored =
      "select part from recording_part join recording on id = recording_id where state = 'live' and command like 'echo here; sleep 700' and position('here'::bytea in data) > 0";
    await expect.poll(() => pitwall.query(stored), { timeout: 10_000 }).not.toEqual([]);
    process.kill(pitwall.stack.services.gateway.pid() ?? 0, "SIGKILL");
    await child.exit;
    const recording = await latest();
    expect(recording).toMatchObject({ state: cut, end: "the gateway ended" });
    expect(await shownOf(recording)).toBe("here\n");
  });
});
