// What users and images write is data: no shell, no SQL, no file name, no option of QEMU's and no kernel parameter is made of it.
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Phase, PitwallRpcError, PullState } from "@pitwall/sdk";
import { afterAll, afterEach, beforeAll, expect, it } from "vitest";
import { watchExecutions } from "./support/executions.ts";
import { mark, metacharacters } from "./support/metacharacters.ts";
import { Layouts } from "./support/parity/layouts.ts";
import { run } from "./support/run.ts";
import { deleteVm, startTestStack, type TestStack } from "./support/stack.ts";

let pitwall: TestStack;
let dir: string;
let cacheDir: string;
let words: string[];

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "pitwall-words-"));
  cacheDir = join(dir, "cache");
  words = metacharacters(join(dir, mark));
  pitwall = await startTestStack({ env: { node: { PITWALL_CACHE_DIR: cacheDir } } });
});

afterAll(async () => {
  await pitwall?.[Symbol.asyncDispose]();
  await rm(dir, { recursive: true, force: true });
});

/** Nothing ran any of it, no file is named by it, and the tables are there. */
afterEach(async () => {
  for (const folder of [dir, cacheDir, pitwall.stack.stateDir]) {
    expect((await readdir(folder, { recursive: true })).filter((path) => path.includes(mark))).toEqual([]);
  }
  expect(await pitwall.query("select name from vm")).toEqual([]);
});

/** The code of the refusal, or "taken". */
async function outcome(work: Promise<unknown>): Promise<string> {
  try {
    await work;
    return "taken";
  } catch (error) {
    if (error instanceof PitwallRpcError) return error.code;
    throw error;
  }
}

it("is refused where something is named", { timeout: 300_000 }, async () => {
  const client = pitwall.stack.client();
  const { image } = pitwall;
  const unexpected: string[] = [];
  const expectOf = async (what: string, word: string, codes: readonly string[], work: Promise<unknown>): Promise<void> => {
    const code = await outcome(work);
    if (!codes.includes(code)) unexpected.push(`${what} ${JSON.stringify(word)}: ${code}`);
  };
  for (const word of [...words, `\0${mark}`]) {
    await expectOf("new VM", word, ["INVALID_ARGUMENT"], client.vms.create({ name: word, spec: { image } }));
    // A variable may well be named as an identifier.
    if (!/^\w+$/.test(word))
      await expectOf("variable", word, ["INVALID_ARGUMENT"], client.vms.create({ spec: { image, env: { [word]: "" } } }));
    const references = [word, `oci:${dir}/${word}`, `docker-archive:${dir}/${word}`, `127.0.0.1:9/${word}`, `127.0.0.1:9/a:${word}`];
    for (const reference of references) {
      await expectOf("reference", reference, ["INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION"], client.resolveImage(reference));
    }
    const none = ["INVALID_ARGUMENT", "NOT_FOUND"];
    await expectOf("VM", word, none, client.vms.get(word));
    await expectOf("deleted VM", word, none, client.vms.delete(word));
    await expectOf("node", word, none, client.getNode(word));
    await expectOf("image", word, none, client.deleteImage(word));
  }
  expect(unexpected).toEqual([]);
});

it("is kept as it is in the fields of images, and reaches no program on the host", { timeout: 300_000 }, async () => {
  const client = pitwall.stack.client();
  const layouts = await Layouts.create(join(dir, "layout"));
  const { controller, node } = pitwall.stack.services;
  await using watched = await (async () => {
    const executions = await watchExecutions([controller.pid()!, node.pid()!], join(dir, "executions"));
    if (typeof executions === "string") console.warn(`skipped: what services start is not watched: ${executions}`);
    return typeof executions === "string" ? undefined : executions;
  })();
  const keyed = Object.fromEntries(words.map((word) => [word, {}]));
  const labels = Object.fromEntries(words.map((word) => [word, word]));
  for (const [at, word] of words.entries()) {
    const layer = await layouts.layer((tar) => tar.entry({ name: `folder/${word}` }, word));
    const reference = await layouts.image(`image${at}`, [layer], {
      ...{ User: word, WorkingDir: word, StopSignal: word, Shell: words, OnBuild: words, Entrypoint: words, Cmd: words },
      ...{ Env: words.map((one, index) => `V${index}=${one}`), Labels: labels, Volumes: keyed, ExposedPorts: keyed, [word]: word },
      Healthcheck: { Test: ["CMD-SHELL", word] },
    });
    const resolved = await client.resolveImage(reference);
    expect(resolved.config).toMatchObject({ user: word, workingDir: word, stopSignal: word, entrypoint: words, cmd: words, labels });
    await client.checkImage(reference);
    for await (const { state, message } of client.pullImage(reference)) {
      // The name of a file may be none that an archive can hold; that is told in our words.
      if (state === PullState.PULL_STATE_FAILED) expect(message, JSON.stringify(word)).toMatch(/^(?:a layer|layer|tar entry|the image)/);
    }
  }
  expect((await client.listImages()).images.length).toBeGreaterThan(words.length * 0.9);
  const started = await watched?.end();
  if (started === undefined) return;
  expect(started).toContain("tar2sqfs");
  expect(started).not.toContain(mark);
});

it("reaches the VM's own process as it is, and nothing on the way there", { timeout: 300_000 }, async () => {
  const { vms } = pitwall.stack.client();
  const script = `printf '%s\\0' "$@" > /args; env -0 > /env; touch /written; sleep infinity`;
  const variables = Object.fromEntries(words.map((word, at) => [`V${at}`, word]));
  const labels = Object.fromEntries(words.slice(0, 60).map((word) => [word, word]));
  const zero = `\0${mark}`;
  for (const more of [{ args: [zero] }, { env: { A: zero } }, { labels: { a: zero } }, { labels: { [zero]: "a" } }]) {
    expect(await outcome(vms.create({ spec: { image: pitwall.image, ...more } }))).toBe("INVALID_ARGUMENT");
  }
  const spec = { image: pitwall.image, args: ["sh", "-c", script, "sh", ...words], env: variables };
  const names = ["plain", "odd"] as const;
  await vms.create({ name: "plain", spec: { image: pitwall.image, args: ["sleep", "infinity"] } });
  const { spec: kept } = await vms.create({ name: "odd", spec: { ...spec, labels } });
  expect(kept).toMatchObject({ args: spec.args, env: variables, labels });
  for (const name of names) expect(await vms.wait(name)).toMatchObject({ message: "", phase: Phase.PHASE_RUNNING });
  const within = (name: string, command: string) => run([...pitwall.ssh.commandFor(name), command]);
  const { stdout } = await within("odd", "until [ -e /written ]; do sleep 0.1; done; base64 -w0 /args; echo; base64 -w0 /env");
  const [args = [], env = []] = stdout.split("\n").map((text) => Buffer.from(text, "base64").toString("utf8").split("\0"));
  expect(args).toEqual([...words, ""]);
  expect(env).toEqual(expect.arrayContaining(Object.entries(variables).map(([name, word]) => `${name}=${word}`)));

  const kernelLines = await Promise.all(names.map(async (name) => (await within(name, "cat /proc/cmdline")).stdout));
  expect(kernelLines[1]).toBe(kernelLines[0]);
  expect(kernelLines[1]).toContain("tsc_early_khz=");
  const lines = await processes();
  expect(lines.filter((line) => line.startsWith("qemu-system") && line.includes(pitwall.stack.stateDir))).toHaveLength(names.length);
  expect(lines.filter((line) => line.includes(mark))).toEqual([]);
  for (const name of names) await deleteVm(pitwall.stack, name);
});

/** Of all processes, arguments and environment. */
async function processes(): Promise<string[]> {
  const pids = (await readdir("/proc")).filter((name) => /^\d+$/.test(name));
  const texts = pids.map((pid) =>
    Promise.all(["cmdline", "environ"].map((name) => readFile(`/proc/${pid}/${name}`, "utf8").catch(() => ""))),
  );
  return (await Promise.all(texts)).map((both) => both.join("\0"));
}
