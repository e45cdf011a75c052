// `npm start` as a person and as a script use it.
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { writeLayout } from "./support/layout.ts";
import { run, type Ended } from "./support/run.ts";

const script = join(import.meta.dirname, "..", "scripts", "run.mjs");
let dir: string;
let state: string;

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "pitwall-start-"));
  state = join(dir, "state");
});

afterAll(() => rm(dir, { recursive: true, force: true }));

const start = (...args: string[]): Promise<Ended> => run(["node", script, "start", ...args]);

/** Starts and waits for the line of JSON. */
async function ready(...args: string[]): Promise<{ child: ChildProcess; line: Record<string, unknown> }> {
  const child = spawn("node", [script, "start", "--json", "--state", state, ...args], { stdio: ["ignore", "pipe", "pipe"] });
  let said = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => (said += text));
  for await (const line of createInterface({ input: child.stdout })) return { child, line: JSON.parse(line) as Record<string, unknown> };
  throw new Error(`npm start ended: ${said}`);
}

async function stop(child: ChildProcess): Promise<void> {
  const ended = once(child, "exit");
  child.kill("SIGTERM");
  await ended;
}

async function expectNothingRuns(): Promise<void> {
  expect((await run(["pgrep", "-fa", state])).stdout).toBe("");
  expect(await readdir(join(state, "node", "vms")).catch(() => [])).toEqual([]);
}

describe("npm start", () => {
  it("prints one line of JSON that lets a script in, and leaves nothing running when it is stopped; twice", async () => {
    for (const again of [false, true]) {
      const { child, line } = await ready(...(again ? [] : ["--fresh"]));
      expect(line).toEqual({
        vm: "demo",
        ssh: expect.arrayContaining(["ssh", "demo@127.0.0.1"]) as string[],
        api: expect.stringMatching(/^http:\/\/127\.0\.0\.1:\d+$/) as string,
        token: expect.stringMatching(/^ey/) as string,
        timingsMs: expect.objectContaining({
          vm: expect.any(Number) as number,
          ssh: expect.any(Number) as number,
          total: expect.any(Number) as number,
        }) as object,
      });
      expect(await run([...(line["ssh"] as string[]), "exit 4"])).toMatchObject({ code: 4 });
      await stop(child);
      await expectNothingRuns();
    }
  });

  it("refuses a state folder that another start uses, and leaves that one alone", async () => {
    const { child, line } = await ready();
    const second = await start("--state", state);
    expect(second.code).toBe(1);
    expect(second.stderr).toMatch(/in use by another `npm start` \(process \d+\)/);
    expect(await run([...(line["ssh"] as string[]), "true"])).toMatchObject({ code: 0 });
    await stop(child);
  });

  it("ends what a killed start left behind, VMs too, when it starts again", async () => {
    const { child, line } = await ready();
    const supervisor = Number((await run(["pgrep", "-f", `start.ts --json --state ${state}`])).stdout.trim().split("\n").at(-1));
    process.kill(supervisor, "SIGKILL");
    await once(child, "exit");
    expect(await run([...(line["ssh"] as string[]), "true"])).toMatchObject({ code: 0 }); // all services run on
    const next = await ready("--fresh");
    await stop(next.child);
    await expectNothingRuns();
  });

  it("says what is wrong with an image, exits with 1 and leaves nothing", async () => {
    const image = await writeLayout(join(dir, "arm"), { architecture: "arm64" });
    const ended = await start("--state", state, image);
    expect(ended.code).toBe(1);
    expect(ended.stderr).toMatch(/^error: .*arm64/m);
    await expectNothingRuns();
  });

  it("says what is wrong with its arguments", async () => {
    expect(await start("one", "two")).toMatchObject({ code: 1, stderr: expect.stringContaining("one image at a time") as string });
    expect(await start("--no-such-flag")).toMatchObject({ code: 1, stderr: expect.stringContaining("--no-such-flag") as string });
  });

  it("lists with --doctor what it installed or made, and that it verifies", async () => {
    const { code, stdout } = await start("--doctor");
    expect(stdout).toMatch(/^ok\s+guest kernel: linux-image-.*checksums verify$/m);
    expect(stdout).toMatch(/^ok\s+starter image: \d+ blobs verify$/m);
    expect(code).toBe(0);
  });

  it("explains itself with --help", async () => {
    expect(await start("--help")).toMatchObject({ code: 0, stdout: expect.stringContaining("npm start -- [IMAGE]") as string });
  });
});
