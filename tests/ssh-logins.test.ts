// A project that lets its owners into VMs as some users alone, with stock clients before a real VM: whom each way lets one be, and what ends
// when that is changed.
import { spawn, type ChildProcess } from "node:child_process";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { PitwallRpcError, type ExecStart } from "@pitwall/sdk";
import { afterAll, beforeAll, beforeEach, describe, expect, it, onTestFinished } from "vitest";
import { run, type Ended } from "./support/run.ts";
import { startSshPlace, type SshPlace } from "./support/ssh-place.ts";

const bin = join(import.meta.dirname, "..", "node_modules", ".bin", "pitwall");
const words = "in the VM box your role lets you log in as dev, backup";
/** For what ends when a setting changes. */
const endsWithinMs = 5_000;

let place: SshPlace;
let project: string;

beforeAll(async () => {
  place = await startSshPlace();
  ({ project } = await place.pitwall.stack.client().vms.get("box"));
});
afterAll(() => place?.[Symbol.asyncDispose]());
beforeEach(() => limit("dev,backup"));

const cli = (...args: string[]): Promise<Ended> => run([bin, ...args], { env: place.env });
const ssh = (...args: string[]): Promise<Ended> => run(["ssh", "-F", place.config, ...args]);
const limit = async (logins: string): Promise<void> =>
  expect(await cli("project", "update", project, "--owner-logins", logins)).toMatchObject({ code: 0 });

/** What a command by the API says, or why it is refused. */
async function exec(start: Partial<ExecStart>, speaks: () => void = () => undefined): Promise<string> {
  let said = "";
  try {
    for await (const { $case, value } of place.pitwall.stack.client().exec("box", { argv: ["id", "-un"], ...start }))
      if ($case === "stdout") {
        said += Buffer.from(value).toString();
        speaks();
      }
  } catch (error) {
    if (error instanceof PitwallRpcError) return `${error.code} ${error.message}`;
    throw error;
  }
  return said.trim();
}
const refusalOf = async (call: Promise<unknown>): Promise<string> =>
  call.then(
    () => "OK",
    (error: unknown) => (error instanceof PitwallRpcError ? `${error.code} ${error.reason} ${error.message}` : String(error)),
  );

it("is shown, and one who names nobody of it is told so", async () => {
  expect((await cli("project", "show", project)).stdout).toMatch(/^Owners log in as +dev, backup$/m);
  expect(await cli("project", "update", project, "--owner-logins", "dev,a b")).toMatchObject({
    code: 1,
    stderr: expect.stringMatching(/^error: --owner-logins: .*must be a user's name/) as string,
  });
});

describe("a key that the VM was started with", () => {
  /** To port 22 of the VM, where the VM's own keys count and no way. */
  const byPort = (): Promise<Ended> => {
    const proxy = `ProxyCommand=ssh -F ${place.config} -W 127.0.0.1:22 door`;
    return ssh("-o", proxy, "-o", "HostKeyAlias=box", "inside", "id -un");
  };

  it.each([
    ["at the door", async () => (await ssh("door", "id -un")).stdout.trim()],
    ["with a jump", async () => (await ssh("dev-inside", "id -un")).stdout.trim()],
    ["by the API", async () => exec({})],
  ])("opens its port no more once somebody comes %s who may not be anybody", async (_, enter) => {
    const { vms } = place.pitwall.stack.client();
    await limit("*");
    await vms.restart("box");
    await vms.wait("box");
    expect(await byPort()).toMatchObject({ code: 0, stdout: "root\n" });
    await limit("dev,backup");
    expect(await enter()).toBe("dev");
    await limit("*"); // which gives it nothing back before it starts anew
    expect(await byPort()).toMatchObject({ code: 255, stderr: expect.stringContaining("Permission denied (publickey)") as string });
  });
});

describe("at the door", () => {
  it("who says no name is the first, and another of them is let in", async () => {
    expect(await ssh("door", "id -un")).toMatchObject({ code: 0, stdout: "dev\n", stderr: "" });
    expect(await ssh("dev-door", "id -un")).toMatchObject({ code: 0, stdout: "dev\n" });
  });

  it("nobody else is, and it says why", async () => {
    for (const user of ["root", "www-data"])
      expect(await ssh("-l", `${user}+box`, "door", "id -un")).toMatchObject({
        code: 255,
        stdout: "",
        stderr: `pitwall: ${words}, not as ${user}\r\n`,
      });
    expect(await run(["sftp", "-F", place.config, "-b", "-", "-o", "User=root+box", "door"], { input: "ls\n" })).toMatchObject({
      code: 255,
    });
    const file = join(place.dir, "sent");
    await writeFile(file, "sent\n");
    for (const scp of ["scp", "scp -O"]) {
      const copy = (to: string, ...options: string[]): Promise<Ended> => run([...scp.split(" "), "-F", place.config, ...options, file, to]);
      expect((await copy("door:/root/sent")).code, scp).toBe(1); // as dev
      expect((await copy("door:sent")).code, scp).toBe(0);
      expect((await copy("door:refused", "-o", "User=root+box")).code, scp).not.toBe(0);
    }
  });

  it("its port 22 is closed, and others are not", async () => {
    expect((await ssh("-o", "LogLevel=INFO", "-W", "127.0.0.1:22", "door")).stderr).toContain(
      `${words}, which its port 22 does not look at`,
    );
    expect(
      (await run(["sh", "-c", `printf 'HEAD / HTTP/1.0\\r\\n\\r\\n' | ssh -F ${place.config} -W 127.0.0.1:8000 door`])).stdout,
    ).toMatch(/^HTTP\/1/);
  });
});

describe("with a jump", () => {
  it.each(["a plain key", "a certificate"])("by %s, the VM lets in those users and nobody else", async (credential) => {
    const usual = place.pitwall.ssh.options[place.pitwall.ssh.options.indexOf("-i") + 1] ?? "";
    let identity = usual;
    if (credential === "a certificate") {
      identity = join(place.dir, "certified");
      expect(await run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", identity])).toMatchObject({ code: 0 });
      const publicKey = (await readFile(`${identity}.pub`, "utf8")).trim();
      const { certificate } = await place.pitwall.stack.client().vms.issueSshCertificate(place.vmId, publicKey);
      await writeFile(`${identity}-cert.pub`, `${certificate}\n`);
    }
    const config = await place.configWith({ identity });
    const jump = (...args: string[]): Promise<Ended> => run(["ssh", "-F", config, ...args]);
    const denied = { code: 255, stdout: "", stderr: expect.stringContaining("Permission denied (publickey)") as string };
    // A certificate opens its VM by its id alone.
    const host = (name: string): string[] => (credential === "a certificate" ? ["-o", `HostName=${place.vmId}`, name] : [name]);
    expect(await jump(...host("dev-inside"), "id -un")).toMatchObject({ code: 0, stdout: "dev\n", stderr: "" });
    for (const user of ["root", "www-data"]) expect(await jump("-l", user, ...host("inside"), "id -un")).toMatchObject(denied);
    await limit("*");
    expect(await jump(...host("inside"), "id -un")).toMatchObject({ code: 0, stdout: "root\n" });
  });

  it("pitwall ssh and pitwall ssh-config know as whom", async () => {
    expect(await cli("ssh", "box", "--", "id -un")).toMatchObject({ code: 0, stdout: "dev\n", stderr: "" });
    expect(await cli("ssh", "dev@box", "--", "id -un")).toMatchObject({ code: 0, stdout: "dev\n" });
    expect(await cli("ssh", "root@box", "--", "id -un")).toMatchObject({ code: 1, stderr: `error: ${words}, not as root\n` });
    expect((await cli("ssh-config", "box")).stdout).toMatch(/^ {2}User dev$/m);
    await cli("project", "update", project, "--record-sessions", "on");
    onTestFinished(async () => void (await cli("project", "update", project, "--record-sessions", "off")));
    expect(await cli("ssh", "box", "--", "id -un")).toMatchObject({ code: 0, stdout: "dev\n" });
  });
});

describe("by the API", () => {
  it("a command is run as one of them, by the name of that user alone", async () => {
    expect(await exec({})).toBe("dev");
    expect(await exec({ user: "backup" })).toBe("backup");
    for (const user of ["root", "0", "dev:root", "1000", "www-data"])
      expect(await exec({ user })).toBe(`PERMISSION_DENIED start.user: your role lets you act as dev, backup, not as "${user}"`);
  });

  it("commands of others in the background are neither seen nor reached, and files are not root's to give", async () => {
    const client = place.pitwall.stack.client();
    await limit("*");
    const ofRoot = await client.startExec("box", { argv: ["sleep", "300"] });
    await limit("dev,backup");
    const own = await client.startExec("box", { argv: ["true"] });
    expect((await client.listExecs("box")).map(({ execId }) => execId)).toEqual([own]);
    const attach = async (): Promise<void> => {
      for await (const said of client.attachExec("box", ofRoot)) expect(said).toBeUndefined();
    };
    expect(await refusalOf(attach())).toMatch(/^NOT_FOUND .*no command/);
    const asRoot = `PERMISSION_DENIED LOGIN_NOT_ALLOWED ${words}, and this acts as root: use scp or sftp`;
    expect(await refusalOf(client.statFile("box", "/etc/shadow"))).toBe(asRoot);
    expect(await refusalOf(client.writeFile("box", "/etc/motd", Buffer.from("x")))).toBe(asRoot);
    expect(await refusalOf(client.getStats("box"))).toBe("OK");
  });
});

describe("what is open when it is changed", () => {
  interface Underway {
    readonly child: ChildProcess;
    readonly ended: Promise<number>;
  }

  async function lasting(...args: string[]): Promise<Underway> {
    const child = spawn("ssh", ["-F", place.config, ...args, "echo here; sleep 300"], { stdio: ["ignore", "pipe", "ignore"] });
    onTestFinished(() => void child.kill("SIGKILL"));
    const ended = new Promise<number>((resolve) => child.once("close", () => resolve(performance.now())));
    let said = "";
    child.stdout.on("data", (data: Buffer) => (said += data.toString()));
    await expect.poll(() => said, { timeout: 30_000, interval: 50 }).toBe("here\n");
    return { child, ended };
  }

  it("ends within seconds if its user may not be, and goes on if they may", async () => {
    await limit("*");
    const [root, dev, jump] = [await lasting("door"), await lasting("dev-door"), await lasting("inside")];
    let isThere = (): void => undefined;
    const there = new Promise<void>((resolve) => (isThere = resolve));
    const command = exec({ argv: ["sh", "-c", "echo here; sleep 300"] }, isThere);
    await there;
    await limit("dev,backup");
    const changedMs = performance.now();
    for (const { ended } of [root, jump]) expect((await ended) - changedMs).toBeLessThan(endsWithinMs);
    expect(await command).toMatch(/^PERMISSION_DENIED you may no longer reach this VM/);
    expect(dev.child.exitCode).toBeNull();
    const limited = await lasting("dev-inside");
    await limit("dev");
    await limited.ended; // nobody sees as which of the two
    expect(dev.child.exitCode).toBeNull();
    await limit("backup");
    await dev.ended;
  });
});
