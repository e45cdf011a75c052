// What programs do with a running VM: commands that outlive their callers, files, logs.
import { WriteFileRequest, type AttachExecRequest, type AttachExecResponse } from "@pitwall/proto/pitwall/v1/guest.ts";
import { Outbox } from "@pitwall/runtime";
import { Status } from "nice-grpc";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { guestApi, type GuestApi } from "./support/guest-api.ts";
import { run, type Ended } from "./support/run.ts";
import { startTestStack, type TestStack } from "./support/stack.ts";

const vm = "api";
const scrollbackBytes = 256 * 1024;
const chunkBytes = 32 * 1024;
let pitwall: TestStack;
let guest: GuestApi;

beforeAll(async () => {
  pitwall = await startTestStack();
  const { vms } = pitwall.stack.client();
  await vms.create({
    name: vm,
    spec: { image: pitwall.image, args: ["sh", "-c", "echo early; mkfifo /go; read line < /go; echo late; exec sleep infinity"] },
  });
  await vms.wait(vm);
  guest = await guestApi(pitwall.stack, vm);
});

afterAll(async () => {
  guest?.[Symbol.dispose]();
  await pitwall?.[Symbol.asyncDispose]();
});

const ssh = (command: string): Promise<Ended> => run([...pitwall.ssh.commandFor(vm), command]);

/** Somebody who looks at a command: `hears` resolves when its output so far ends in a text. */
class Attached implements Disposable {
  readonly #stop = new AbortController();
  readonly #requests = new Outbox<AttachExecRequest>(16);
  readonly #responses: AsyncIterator<AttachExecResponse>;
  output = "";
  exitCode: number | undefined;

  constructor(execId: string) {
    this.say({ $case: "execId", value: execId });
    this.#responses = guest.api.attachExec(this.#requests, { signal: this.#stop.signal })[Symbol.asyncIterator]();
  }

  say(message: AttachExecRequest["message"] & object): void {
    this.#requests.push({ message });
  }

  async hears(text: string): Promise<void> {
    while (!this.output.endsWith(text)) await this.#next();
  }

  async ends(): Promise<number | undefined> {
    while (await this.#next());
    return this.exitCode;
  }

  async #next(): Promise<boolean> {
    const next = await this.#responses.next();
    if (next.done === true) return false;
    const { message } = next.value;
    if (message?.$case === "exit") this.exitCode = message.value.code;
    else this.output += Buffer.from(message?.value ?? []).toString();
    return true;
  }

  [Symbol.dispose](): void {
    this.#stop.abort();
  }
}

describe("a command in the background", () => {
  it("goes on when its caller leaves; whoever comes later has all of its output, its input, and its end", async () => {
    const script = "echo begun; while read line; do echo got $line; done; echo over; exit 4";
    const id = await pitwall.stack.client().startExec(vm, { argv: ["sh", "-c", script] });
    {
      using first = new Attached(id);
      await first.hears("begun\n");
      first.say({ $case: "stdin", value: Buffer.from("one\n") });
      await first.hears("got one\n");
    }
    using second = new Attached(id);
    using onlooker = new Attached(id);
    await second.hears("begun\ngot one\n");
    second.say({ $case: "stdin", value: Buffer.from("two\n") });
    await Promise.all([second.hears("got two\n"), onlooker.hears("begun\ngot one\ngot two\n")]);
    second.say({ $case: "stdinEnd", value: true });
    expect(await Promise.all([second.ends(), onlooker.ends()])).toEqual([4, 4]);
    using late = new Attached(id);
    expect(await late.ends()).toBe(4);
    expect(late.output).toBe("begun\ngot one\ngot two\nover\n");
  });

  it("has a terminal when it asks for one, which each caller may resize", async () => {
    const script = 'trap "stty size" WINCH; trap "exit 6" TERM; stty size; echo ready; while :; do sleep 0.1; done';
    const id = await pitwall.stack.client().startExec(vm, { argv: ["bash", "-c", script], tty: true, size: { columns: 80, rows: 24 } });
    using someone = new Attached(id);
    await someone.hears("24 80\r\nready\r\n");
    someone.say({ $case: "resize", value: { columns: 132, rows: 50 } });
    await someone.hears("50 132\r\n");
    someone.say({ $case: "signal", value: 15 });
    expect(await someone.ends()).toBe(6);
  });

  it("keeps the latest 256 KiB of its output", async () => {
    const client = pitwall.stack.client();
    const id = await client.startExec(vm, { argv: ["sh", "-c", "head -c 1000000 /dev/zero | tr '\\0' x; echo end"] });
    await expect
      .poll(async () => (await client.listExecs(vm)).find(({ execId }) => execId === id)?.exit, { timeout: 30_000 })
      .toBeDefined();
    using late = new Attached(id);
    expect(await late.ends()).toBe(0);
    expect(late.output).toMatch(/x{1000}end\n$/);
    expect(late.output.length).toBeLessThanOrEqual(scrollbackBytes);
    expect(late.output.length).toBeGreaterThan(scrollbackBytes - chunkBytes);
  });

  it("is ended by a signal, and one that never was is not found", async () => {
    const id = await pitwall.stack.client().startExec(vm, { argv: ["sleep", "infinity"] });
    using someone = new Attached(id);
    someone.say({ $case: "signal", value: 15 });
    await someone.ends();
    expect((await pitwall.stack.client().listExecs(vm)).find(({ execId }) => execId === id)?.exit).toMatchObject({ signal: 15 });
    using nobody = new Attached("no-such");
    await expect(nobody.ends()).rejects.toMatchObject({ code: Status.NOT_FOUND, details: 'no command "no-such"' });
  });
});

describe("the SDK", () => {
  it("runs a command with input, and gives its output and its end", async () => {
    async function* input(): AsyncGenerator<{ stdin: Uint8Array }> {
      yield { stdin: Buffer.from("in\n") };
    }
    const said: string[] = [];
    for await (const { $case, value } of pitwall.stack
      .client()
      .exec(vm, { argv: ["sh", "-c", "cat; echo err >&2; exit 3"] }, { input: input() }))
      said.push($case === "exit" ? `exit ${value.code}` : `${$case} ${Buffer.from(value).toString()}`);
    expect(said.toSorted()).toEqual(["exit 3", "stderr err\n", "stdout in\n"]);
  });

  it("attaches to a command, and writes files that it reads again", async () => {
    const client = pitwall.stack.client();
    const id = await client.startExec(vm, { argv: ["sh", "-c", "echo begun; cat"] });
    async function* input(): AsyncGenerator<{ stdin: Uint8Array } | { stdinEnd: true }> {
      yield { stdin: Buffer.from("more") };
      yield { stdinEnd: true };
    }
    let output = "";
    for await (const { $case, value } of client.attachExec(vm, id, { input: input() }))
      if ($case !== "exit") output += Buffer.from(value).toString();
    expect(output).toBe("begun\nmore");
    const content = Buffer.alloc(500_000, "0123456789");
    expect(await client.writeFile(vm, "/srv/sdk", content, { mode: 0o600 })).toMatchObject({ sizeBytes: 500_000n, mode: 0o600 });
    const chunks: Uint8Array[] = [];
    for await (const chunk of client.readFile(vm, "/srv/sdk")) chunks.push(chunk);
    expect(Buffer.concat(chunks).equals(content)).toBe(true);
    expect((await ssh("rm /srv/sdk")).code).toBe(0);
  });
});

describe("WriteFile", () => {
  async function* written(
    start: Partial<{ path: string; mode: number; user: string }>,
    ...chunks: Buffer[]
  ): AsyncGenerator<WriteFileRequest> {
    yield WriteFileRequest.fromPartial({ message: { $case: "start", value: start } });
    for (const value of chunks) yield { message: { $case: "data", value } };
  }
  async function* whole(...parts: Parameters<typeof written>): AsyncGenerator<WriteFileRequest> {
    yield* written(...parts);
    yield { message: { $case: "end", value: true } };
  }

  it("puts a file where others see the old content or the new, with its mode and owner", async () => {
    const content = Buffer.alloc(300_000, "0123456789");
    const chunks = Array.from({ length: 10 }, (_, at) => content.subarray(at * 30_000, (at + 1) * 30_000));
    expect((await ssh("echo old > /srv/file")).code).toBe(0);
    const { file } = await guest.api.writeFile(whole({ path: "/srv/file", mode: 0o4750, user: "www-data" }, ...chunks));
    expect(file).toMatchObject({ name: "file", sizeBytes: 300_000n, mode: 0o4750, uid: 33, gid: 33 });
    const [sum, listed] = (await ssh("md5sum < /srv/file; ls -A /srv")).stdout.split("\n");
    const { stdout: expected } = await run(["md5sum"], { input: content.toString() });
    expect(sum).toBe(expected.trim());
    expect(listed).toBe("file");
  });

  it("leaves nothing behind when its caller leaves in the middle", async () => {
    const broken = (async function* (): AsyncGenerator<WriteFileRequest> {
      yield* written({ path: "/srv/never" }, Buffer.from("some"));
      await expect.poll(async () => (await ssh("ls -A /srv")).stdout, { timeout: 20_000 }).toContain(".pitwall-");
      throw new Error("it breaks off");
    })();
    await expect(guest.api.writeFile(broken)).rejects.toThrow("it breaks off");
    await expect.poll(async () => (await ssh("ls -A /srv")).stdout, { timeout: 20_000 }).toBe("file\nwww\n");
  });

  it("takes no half file for a whole one", async () => {
    await expect(guest.api.writeFile(written({ path: "/srv/half" }, Buffer.from("some")))).rejects.toMatchObject({
      code: Status.ABORTED,
      details: "/srv/half: the caller left before the end",
    });
    expect((await ssh("ls -A /srv")).stdout).toBe("file\nwww\n");
  });

  it.each([
    [{ path: "relative" }, Status.INVALID_ARGUMENT, /path/],
    [{ path: "/no/such/folder/file" }, Status.NOT_FOUND, /\/no\/such\/folder\/file/],
    [{ path: "/srv/x", user: "nobody-here" }, Status.INVALID_ARGUMENT, /start\.user/],
  ])("refuses %j", async (start, code, details) => {
    await expect(guest.api.writeFile(whole(start, Buffer.from("x")))).rejects.toMatchObject({
      code,
      details: expect.stringMatching(details) as string,
    });
  });
});

it("logs are told from a time on", async () => {
  const client = pitwall.stack.client();
  const said = async (since?: Date): Promise<string> => {
    let text = "";
    for await (const { data } of client.readLogs(vm, { ...(since && { since }) })) text += Buffer.from(data).toString();
    return text;
  };
  await expect.poll(() => said()).toBe("early\n");
  const between = new Date(Number((await ssh("date +%s%3N")).stdout));
  expect((await ssh("echo > /go")).code).toBe(0);
  await expect.poll(() => said()).toBe("early\nlate\n");
  expect(await said(between)).toBe("late\n");
  expect(await said(new Date(between.getTime() + 3_600_000))).toBe("");
  expect(await said(new Date(0))).toBe("early\nlate\n");
});

it("the clock follows the node's: a wrong one is set when the node comes back", async () => {
  expect((await ssh("date -s @1000000000")).code).toBe(0);
  const { services } = pitwall.stack;
  const before = services.node.pid();
  process.kill(before ?? 0, "SIGKILL");
  await expect.poll(() => services.node.pid(), { timeout: 20_000 }).not.toBe(before);
  const offSeconds = async (): Promise<number> => Math.abs(Number((await ssh("date +%s")).stdout || "0") - Date.now() / 1000);
  await expect.poll(offSeconds, { timeout: 30_000, interval: 200 }).toBeLessThan(10);
});
