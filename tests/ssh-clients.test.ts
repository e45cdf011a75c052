// Stock clients against a VM's SSH server: through the gateway's SSH door, and through `ssh -J`, where the gateway sees ciphertext only.
import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { mkdir, mkdtemp, readFile, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { freePort } from "@pitwall/runtime";
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from "vitest";
import { run, type Ended } from "./support/run.ts";
import { startSshPlace, type SshPlace } from "./support/ssh-place.ts";
import { refusals } from "./support/ssh-refusals.ts";
import { accepts, scenarios, servesHello } from "./support/ssh-scenarios.ts";

const leastScenarios = 45;

let place: SshPlace;
let dir: string;
let config: string;

beforeAll(async () => {
  place = await startSshPlace();
  ({ dir, config } = place);
  await servesHello(place);
});
afterAll(() => place?.[Symbol.asyncDispose]());

const ssh = (...words: string[]): Promise<Ended> => run(["ssh", "-F", config, ...words]);

/** `ssh -N` in the background; `isThere` says when its forwards are there, from what it has said so far. */
async function forwarding(isThere: (said: string) => Promise<boolean>, ...words: string[]): Promise<void> {
  const child = spawn("ssh", ["-F", config, "-o", "LogLevel=VERBOSE", "-v", "-N", ...words], { stdio: ["ignore", "ignore", "pipe"] });
  const ended = new Promise((resolve) => child.once("close", resolve));
  onTestFinished(async () => {
    child.kill();
    await ended;
  });
  let said = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => (said += text));
  await expect.poll(() => isThere(said), { timeout: 30_000, interval: 20 }).toBe(true);
}

describe.concurrent("scenarios", () => {
  const all = [...scenarios, ...refusals];
  const runs = all.flatMap((scenario) => scenario.ways.map((way) => ({ scenario, way, name: `${way} ${scenario.name}` })));

  it("are many, and none has the name of another", () => {
    process.stderr.write(`${all.length} scenarios in ${runs.length} runs\n`);
    expect(new Set(all.map(({ name }) => name)).size).toBe(all.length);
    expect(all.length).toBeGreaterThanOrEqual(leastScenarios);
  });

  it.each(runs)("$name", async ({ scenario, way }) => scenario.see(place, way));
});

describe.each(["door", "inside"])("%s", (host) => {
  const work = async (): Promise<string> => mkdtemp(join(dir, "work-"));

  it("logs in as any user of the image, with that user's shell, groups and home", async () => {
    const command = 'id -un; id -Gn; echo "$HOME $SHELL $USER $FROM_IMAGE"; pwd; umask';
    expect((await ssh(host, command)).stdout).toBe("root\nroot\n/root /bin/bash root yes\n/root\n0022\n");
    expect((await ssh(`dev-${host}`, command)).stdout).toBe("dev\ndev staff games\n/home/dev /bin/bash dev yes\n/home/dev\n0022\n");
  });

  it("forwards no agent", async () => {
    const command = ["ssh", "-F", config, "-A", host, "echo ${SSH_AUTH_SOCK:-none}"];
    expect((await run(["ssh-agent", ...command])).stdout).toBe("none\n");
  });

  it("has a terminal whose size follows the client's", async () => {
    const program = `
import fcntl, os, pty, struct, sys, termios
pid, fd = pty.fork()
if pid == 0:
    os.execvp(sys.argv[1], sys.argv[1:])
def size(rows, columns): fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
def until(word):
    global text
    while word not in text:
        text += os.read(fd, 4096)
    text = text[text.index(word) + len(word):]
text = b""
size(33, 101)
until(b"# ")
os.write(fd, b"stty -echo; trap 'stty size' WINCH; echo rea''dy; stty size\\n")
until(b"33 101")
until(b"# ") # the shell is in the foreground again, where the signal goes
size(44, 202)
until(b"44 202")
os.write(fd, b"exit 5\\n")
try:
    while os.read(fd, 4096): pass
except OSError: pass
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
`;
    expect(await run(["python3", "-c", program, "ssh", "-F", config, host], { timeoutMs: 30_000 })).toMatchObject({ code: 5 });
  });

  it.each(["scp", "scp -O"])("copies files and folders with %s", async (command) => {
    const scp = command.split(" ");
    const at = await work();
    const sent = randomBytes(300_000);
    await mkdir(join(at, "up", "sub"), { recursive: true });
    await writeFile(join(at, "up", "a b"), sent, { mode: 0o640 });
    await writeFile(join(at, "up", "sub", "empty"), "");
    const name = `/root/copy-${scp.length}-${host}`;
    const copy = (...words: string[]): Promise<Ended> => run([...scp, "-F", config, "-p", "-r", ...words]);
    expect(await copy(join(at, "up"), `${host}:${name}`)).toMatchObject({ code: 0, stderr: "" });
    expect((await ssh(host, `stat -c '%a %s' '${name}/a b' ${name}/sub/empty`)).stdout).toBe("640 300000\n644 0\n");
    expect(await copy(`${host}:${name}`, join(at, "down"))).toMatchObject({ code: 0, stderr: "" });
    expect((await readFile(join(at, "down", "a b"))).equals(sent)).toBe(true);
    expect((await copy(`${host}:/no/such`, at)).code).toBe(1);
  });

  it("speaks SFTP as the user who logs in", async () => {
    const at = await work();
    await writeFile(join(at, "file"), "by sftp\n");
    const input = `put ${at}/file new\nmkdir folder\nrename new folder/moved\nchmod 600 folder/moved\nget folder/moved ${at}/back\nls -l folder\nrm folder/moved\nrmdir folder\n`;
    const { code, stdout, stderr } = await run(["sftp", "-F", config, "-b", "-", `dev-${host}`], { input });
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect(stdout).toMatch(/-rw------- .*moved/);
    expect(await readFile(join(at, "back"), "utf8")).toBe("by sftp\n");
    expect((await run(["sftp", "-F", config, "-b", "-", `dev-${host}`], { input: `put ${at}/file /root/mine\n` })).code).not.toBe(0);
  });

  it("synchronises with rsync", async () => {
    const at = await work();
    await writeFile(join(at, "one"), randomBytes(100_000));
    const rsync = ["rsync", "-a", "--delete", "-e", `ssh -F ${config}`];
    expect(await run([...rsync, `${at}/`, `dev-${host}:sync/`])).toMatchObject({ code: 0, stderr: "" });
    expect(await run([...rsync, `dev-${host}:sync/`, `${at}/back/`])).toMatchObject({ code: 0, stderr: "" });
    expect((await readFile(join(at, "back", "one"))).equals(await readFile(join(at, "one")))).toBe(true);
  });

  it("pushes and clones with git", async () => {
    const at = await work();
    expect((await ssh(`dev-${host}`, "rm -rf repo.git && git init -q --bare -b main repo.git")).code).toBe(0);
    const env = { GIT_SSH_COMMAND: `ssh -F ${config}`, GIT_CONFIG_GLOBAL: "/dev/null" };
    const git = async (...words: string[]): Promise<Ended> => {
      const ended = await run(["git", "-c", "user.name=t", "-c", "user.email=t@example.com", ...words], { cwd: at, env });
      expect(ended, words.join(" ")).toMatchObject({ code: 0 });
      return ended;
    };
    await git("init", "-q", "-b", "main", "one");
    await writeFile(join(at, "one", "file"), "by git\n");
    await git("-C", "one", "add", "file");
    await git("-C", "one", "commit", "-q", "-m", "first");
    await git("-C", "one", "push", "-q", `dev-${host}:repo.git`, "main");
    await git("clone", "-q", `dev-${host}:repo.git`, "two");
    expect(await readFile(join(at, "two", "file"), "utf8")).toBe("by git\n");
  });

  it("forwards ports into the VM: -L, and -D with a SOCKS client", async () => {
    const [local, socks] = [await freePort(), await freePort()];
    const isThere = async (): Promise<boolean> => (await accepts(local)) && accepts(socks);
    await forwarding(isThere, "-L", `127.0.0.1:${local}:127.0.0.1:8000`, "-D", `127.0.0.1:${socks}`, host);
    const hello = async (): Promise<string> => (await fetch(`http://127.0.0.1:${local}/hello`)).text();
    expect(await hello()).toBe("hello from the VM\n");
    const through = await run(["curl", "-sS", "--noproxy", "", "--socks5-hostname", `127.0.0.1:${socks}`, "http://127.0.0.1:8000/hello"]);
    expect(through).toMatchObject({ code: 0, stdout: "hello from the VM\n" });
  });

  it("forwards a port of the VM back: -R", async () => {
    const server = createServer((_, response) => response.end("hello from outside\n"));
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    onTestFinished(() => void server.close());
    const { port } = server.address() as AddressInfo; // it listens on TCP
    const remote = host === "door" ? 9001 : 9002;
    await forwarding(async (said) => said.includes("remote forward success"), "-R", `${remote}:127.0.0.1:${port}`, host);
    const fetchInside = `python3 -c 'import urllib.request as u; print(u.urlopen("http://127.0.0.1:${remote}/").read().decode(), end="")'`;
    expect(await ssh(host, fetchInside)).toMatchObject({ code: 0, stdout: "hello from outside\n" });
  });

  it("lets in 50 logins that come together", async () => {
    const begun = performance.now();
    const ended = await Promise.all(Array.from({ length: 50 }, async (_, n) => ssh(host, `echo ${n}`)));
    process.stderr.write(`50 logins by the ${host} in ${Math.round(performance.now() - begun)} ms\n`);
    expect(ended).toMatchObject(ended.map((_, n) => ({ code: 0, stdout: `${n}\n`, stderr: "" })));
  });

  it("carries 100 sessions at once over one connection", async () => {
    const socket = join(dir, `m-${host}`);
    const master = ["-o", "ControlMaster=auto", "-o", `ControlPath=${socket}`, "-o", "ControlPersist=60"];
    expect((await ssh(...master, host, "true")).code).toBe(0);
    onTestFinished(async () => void (await ssh("-O", "exit", "-o", `ControlPath=${socket}`, host)));
    const sessions = await Promise.all(
      Array.from({ length: 100 }, async (_, n) => {
        const child = spawn("ssh", ["-F", config, "-o", `ControlPath=${socket}`, host, "cat"], { stdio: ["pipe", "pipe", "inherit"] });
        child.stdin.write(`${n}\n`);
        const [echo] = (await once(child.stdout, "data")) as [Buffer]; // no encoding is set
        return { child, echo: echo.toString() };
      }),
    );
    expect(sessions.map(({ echo }) => echo)).toEqual(Array.from({ length: 100 }, (_, n) => `${n}\n`));
    const codes = sessions.map(async ({ child }) => {
      child.stdin.end();
      return ((await once(child, "close")) as [number])[0];
    });
    expect(new Set(await Promise.all(codes))).toEqual(new Set([0]));
  });

  it("answers ansible's ping", async () => {
    const env = {
      LC_ALL: "C.UTF-8",
      ANSIBLE_SSH_ARGS: `-F ${config}`,
      ANSIBLE_HOME: dir,
      ANSIBLE_LOCAL_TEMP: join(dir, "ansible"),
      ANSIBLE_CONFIG: join(dir, "ansible.cfg"),
    };
    await writeFile(env.ANSIBLE_CONFIG, "");
    const { stdout, code } = await run(["ansible", "all", "-i", `${host},`, "-m", "ping"], { env });
    expect(stdout).toContain('"ping": "pong"');
    expect(code).toBe(0);
  });
});
