// What clients of SSH do and get: commands, terminals, bytes, files and forwards.
import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { mkdtemp, readFile, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import { connect, type AddressInfo } from "node:net";
import { join } from "node:path";
import { freePort, systemClock } from "@pitwall/runtime";
import { expect } from "vitest";
import { run, type Ended } from "./run.ts";
import { ways, type SshPlace, type Way } from "./ssh-place.ts";
import { byGateway, bySsh, digest, does, says, sha256, ssh, talk, type Scenario } from "./ssh-scenario.ts";

const much = randomBytes(3 * 2 ** 20);
const allValues = Buffer.from(Array.from({ length: 2 ** 20 }, (_, at) => at % 256));
const some = allValues.subarray(0, 2 ** 16);

const commands: readonly Scenario[] = [
  ...(
    [
      ["true", 0],
      ["exit 1", 1],
      ["exit 255", 255],
      ["kill -TERM $$", 255],
    ] as const
  ).map(([command, code]) => says(`ends as the command does: ${command}`, ways, { command: [command], code })),
  says("tells stdout from stderr", ways, { command: ["echo out; echo err >&2; exit 7"], code: 7, stdout: "out\n", stderr: "err\n" }),
  says("takes words of a command as one line", ways, { command: ["echo", "'a  b'", "c"], stdout: "a  b c\n" }),
  says("ends the command's standard input with its own", ways, { command: ["wc -c; echo after"], input: "abc", stdout: "3\nafter\n" }),
  says("gives the command no standard input with -n", byGateway, { options: ["-n"], command: ["wc -c"], input: "lost", stdout: "0\n" }),
  says("takes 3 MiB in and gives them out again", ways, { command: ["cat"], input: much, stdout: much }),
  says("takes bytes of all values", byGateway, { command: ["sha256sum"], input: allValues, stdout: `${sha256(allValues)}  -\n` }),
  says("gives bytes of all values", byGateway, {
    command: ["python3 -c 'import sys; sys.stdout.buffer.write(bytes(range(256)) * 4096)'"],
    stdout: allValues,
  }),
  says("gives a megabyte of stderr, and no stdout", byGateway, {
    command: ["head -c 1000000 /dev/zero | tr '\\0' e >&2"],
    stderr: "e".repeat(1_000_000),
  }),
  // The library reads packets of 35,000 bytes at most, as many as the protocol asks for.
  says("takes a command of 32 KiB", byGateway, { command: [`echo ${"x".repeat(32_768)} | wc -c`], stdout: "32769\n" }),
  says("takes a command of 64 KiB where the VM's own server reads it", ["inside"], {
    command: [`echo ${"x".repeat(65_536)} | wc -c`],
    stdout: "65537\n",
  }),
  says("leaves what a command started in the background", byGateway, {
    command: ["(sleep 600 </dev/null >/dev/null 2>&1 &); echo here"],
    stdout: "here\n",
  }),
  says("sets the environment", bySsh, {
    options: ["-o", 'SetEnv=ONE=1 "TWO=two words"'],
    command: ['echo "$ONE|$TWO"'],
    stdout: "1|two words\n",
  }),
  says("sends the environment", byGateway, {
    options: ["-o", "SendEnv=GREETING"],
    env: { GREETING: "hi" },
    command: ["echo $GREETING"],
    stdout: "hi\n",
  }),
  says("has a shell without a terminal", byGateway, {
    options: ["-T"],
    input: "tty\necho hi\nexit 3\n",
    code: 3,
    stdout: "not a tty\nhi\n",
  }),
  says("is whom the name says", ["door", "inside"], { host: (way) => `dev-${way}`, command: ["id -un"], stdout: "dev\n" }),
];

/** VMs of a project that is not one's own, and jumps by whatever name. */
const nameOfTeams = { command: ["cat /proc/sys/kernel/hostname"], stdout: "web\n" };
const unpinned = ["-o", "HostKeyAlias=web.team", "-o", "UserKnownHostsFile=/dev/null", "-o", "StrictHostKeyChecking=no"];

const names: readonly Scenario[] = [
  ...["web.team", "team/web", "root+web.team", "root+team/web"].map((name) =>
    says(`enters a VM of another project as ${name}`, ["door"], { options: ["-l", name], ...nameOfTeams }),
  ),
  ...["web.team", "team/web"].map((name) =>
    says(`is jumped through to a VM of another project as ${name}`, ["inside"], {
      options: ["-o", `HostName=${name}`, ...unpinned],
      ...nameOfTeams,
    }),
  ),
  ...["somebody", "Some_Body", "box", "halted"].map((name) =>
    says(`is jumped through by one who is called ${name}`, ["inside"], {
      options: ["-o", `ProxyJump=${name}@jump`],
      command: ["echo in"],
      stdout: "in\n",
    }),
  ),
  does("enters a VM of another project by `pitwall ssh`, with -p or PROJECT/NAME", ["cli"], async (place, way) => {
    const [pitwall = "", , ...rest] = place.line(way, {});
    expect(rest).toEqual(["box"]);
    for (const words of [["-p", "team", "web"], ["team/web"], ["root@team/web"]])
      expect(await run([pitwall, "ssh", ...words, "--", ...nameOfTeams.command], { env: place.env })).toMatchObject({
        ...{ code: 0, stdout: nameOfTeams.stdout },
      });
  }),
  does("has hosts for VMs of all projects by `pitwall ssh-config`, of which no two are called the same", ["cli"], async (place, way) => {
    const [pitwall = ""] = place.line(way, {});
    const hosts = async (...words: string[]): Promise<string[]> => {
      const { stdout } = await run([pitwall, "ssh-config", ...words], { env: place.env });
      return [...stdout.matchAll(/^Host (.*)$/gm)].map(([, host = ""]) => host);
    };
    expect(await hosts("-p", "team")).toEqual(["pitwall-web.team"]);
    expect(await hosts("-p", "team", "web", place.vmId)).toEqual(["pitwall-web.team", "pitwall-box"]);
    expect(await hosts("-A")).toEqual(expect.arrayContaining(["pitwall-box", "pitwall-web.team"]));
    expect(await hosts()).not.toContain("pitwall-web.team");
  }),
];

const terminals: readonly Scenario[] = [
  says("has a terminal with -tt", byGateway, { options: ["-tt"], command: ["tty; exit 3"], code: 3, stdout: /^\/dev\/pts\/\d+\r\n$/ }),
  says("tells the terminal's name", byGateway, { options: ["-tt"], env: { TERM: "vt220" }, command: ["echo $TERM"], stdout: "vt220\r\n" }),
  does("interrupts with a terminal's Ctrl-C", byGateway, async (place, way) => {
    const command = ["trap 'echo got it; exit 9' INT; echo re''ady; while sleep 0.1; do :; done"];
    const { code, stdout } = await talk(place, place.line(way, { options: ["-tt"], command }), [["ready", "\x03"]]);
    expect({ code, isThere: stdout.includes("got it") }).toEqual({ code: 9, isThere: true });
  }),
  does("disconnects by the escape of its own", byGateway, async (place, way) => {
    const command = ["echo re''ady; exec sleep 600"];
    expect(await talk(place, place.line(way, { options: ["-tt"], command }), [["ready", "\r~."]])).toMatchObject({ code: 255 });
  }),
  does("goes on in the background with -f", bySsh, async (place, way) => {
    const command = [`until [ -e /tmp/go-${way} ]; do sleep 0.1; done; echo done > /tmp/done-${way}`];
    const line = place.line(way, { options: ["-f"], command });
    const { code } = await run(["sh", "-c", '"$@" </dev/null >/dev/null 2>&1', "sh", ...line], { env: place.env });
    expect(code).toBe(0);
    const after = await ssh(
      place,
      way,
      [],
      `touch /tmp/go-${way}; until [ -e /tmp/done-${way} ]; do sleep 0.1; done; cat /tmp/done-${way}`,
    );
    expect(after).toMatchObject({ code: 0, stdout: "done\n" });
  }),
];

/** `ssh -N` with these options, until the test has done `meanwhile`; what it says on stderr. */
async function forwarding(
  place: SshPlace,
  way: Way,
  options: readonly string[],
  meanwhile: (said: () => string) => Promise<void>,
): Promise<void> {
  const [program = "", ...args] = place.line(way, { options: ["-N", "-o", "LogLevel=INFO", ...options] });
  const child = spawn(program, args, { stdio: ["ignore", "ignore", "pipe"] });
  const closed = once(child, "close");
  let said = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => (said += text));
  try {
    await meanwhile(() => said);
  } finally {
    child.kill();
    await closed;
  }
}

const forwards: readonly Scenario[] = [
  says("speaks to a port of the VM with -W", ["door"], {
    options: ["-W", "127.0.0.1:8000"],
    input: "GET /hello HTTP/1.0\r\n\r\n",
    stdout: /^HTTP\/1\.0 200 OK\r\n[^]*hello from the VM\n$/,
  }),
  says("gives the VM's SSH server to who jumps, with -W", ["door"], {
    host: "jump",
    options: ["-W", "box:22"],
    stdout: /^SSH-2\.0-powerunit\r\n/,
  }),
  does("forwards a socket of its own", bySsh, async (place, way) => {
    const socket = join(place.dir, `l-${way}`);
    await forwarding(place, way, ["-L", `${socket}:127.0.0.1:8000`], async () => {
      const get = async (): Promise<Ended> => run(["curl", "-sS", "--unix-socket", socket, "http://vm/hello"]);
      await expect.poll(get, { timeout: 30_000, interval: 100 }).toMatchObject({ code: 0, stdout: "hello from the VM\n" });
    });
  }),
  does("forwards to a socket of the VM", byGateway, async (place, way) => {
    const [here, there] = [join(place.dir, `u-${way}`), `/tmp/socket-${way}`];
    const program = `import socket; s = socket.socket(socket.AF_UNIX); s.bind("${there}"); s.listen(); c = s.accept()[0]; c.recv(4096); c.sendall(b"HTTP/1.0 200 OK\\r\\n\\r\\nhello ${way}\\n")`;
    const served = ssh(place, way, [], `python3 -c '${program}'`); // which answers once, and ends
    await forwarding(place, way, ["-L", `${here}:${there}`], async (said) => {
      const get = async (): Promise<unknown> => {
        const { code, stdout } = await run(["curl", "-sS", "--unix-socket", here, "http://vm/"]);
        return { code, said: code === 0 ? stdout : said() };
      };
      await expect.poll(get, { timeout: 30_000, interval: 200 }).toEqual({ code: 0, said: `hello ${way}\n` });
    });
    expect(await served).toMatchObject({ code: 0, stderr: "" });
  }),
  does("has a SOCKS proxy by `pitwall ssh -D`, and a way back by -R", ["cli"], async (place, way) => {
    const server = createServer((_, response) => response.end("hello from outside\n"));
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const { port } = server.address() as AddressInfo; // it listens on TCP
    const socks = await freePort();
    const child = spawn(place.line(way, {})[0] ?? "", ["ssh", "-N", "-D", `127.0.0.1:${socks}`, "-R", `9003:127.0.0.1:${port}`, "box"], {
      env: { ...process.env, ...place.env },
      stdio: "ignore",
    });
    const closed = once(child, "close");
    try {
      const get = (at: number): Promise<Ended> =>
        run(["curl", "-sS", "--noproxy", "", "--socks5-hostname", `127.0.0.1:${socks}`, `http://127.0.0.1:${at}/hello`]);
      await expect.poll(() => get(8000), { timeout: 30_000, interval: 100 }).toMatchObject({ code: 0, stdout: "hello from the VM\n" });
      await expect.poll(() => get(9003), { timeout: 30_000, interval: 100 }).toMatchObject({ code: 0, stdout: "hello from outside\n" });
    } finally {
      child.kill();
      await closed;
      server.close();
    }
  }),
  does("has the VM choose a port for -R", byGateway, async (place, way) => {
    const server = createServer((_, response) => response.end(`hello ${way}\n`));
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const { port } = server.address() as AddressInfo; // it listens on TCP
    try {
      await forwarding(place, way, ["-R", `0:127.0.0.1:${port}`], async (said) => {
        const allocated = (): string | undefined => /Allocated port (\d+) for remote forward/.exec(said())?.[1];
        await expect.poll(allocated, { timeout: 30_000, interval: 20 }).toBeDefined();
        const get = `bash -c 'exec 3<>/dev/tcp/127.0.0.1/${allocated()}; printf "GET / HTTP/1.0\\r\\n\\r\\n" >&3; tail -n 1 <&3'`;
        expect(await ssh(place, way, [], get)).toMatchObject({ code: 0, stdout: `hello ${way}\n` });
      });
    } finally {
      server.close();
    }
  }),
  does("shares one connection: -M, -O check, sessions, -O forward, -O exit", byGateway, async (place, way) => {
    const socket = join(place.dir, `s-${way}`);
    const control = async (...words: string[]): Promise<Ended> => ssh(place, way, ["-S", socket, ...words]);
    await forwarding(place, way, ["-M", "-S", socket], async () => {
      await expect.poll(async () => (await control("-O", "check")).code, { timeout: 30_000, interval: 100 }).toBe(0);
      const sessions = [1, 2, 3].map(async (n) => ssh(place, way, ["-S", socket], `cat; exit ${n}`));
      expect((await Promise.all(sessions)).map(({ code }) => code)).toEqual([1, 2, 3]);
      const port = await freePort();
      expect(await control("-O", "forward", "-L", `127.0.0.1:${port}:127.0.0.1:8000`)).toMatchObject({ code: 0 });
      expect(await (await fetch(`http://127.0.0.1:${port}/hello`)).text()).toBe("hello from the VM\n");
      expect(await control("-O", "exit")).toMatchObject({ code: 0 });
    });
  }),
  does("forwards with `pitwall ssh -N -L`", ["cli"], async (place, way) => {
    const port = await freePort();
    const [program = "", ...args] = place.line(way, { options: ["-N", "-L", `127.0.0.1:${port}:127.0.0.1:8000`] });
    const child = spawn(program, args, { stdio: "ignore", env: { ...process.env, ...place.env } });
    const closed = once(child, "close");
    try {
      await expect.poll(() => accepts(port), { timeout: 30_000, interval: 100 }).toBe(true);
      expect(await (await fetch(`http://127.0.0.1:${port}/hello`)).text()).toBe("hello from the VM\n");
    } finally {
      child.kill("SIGTERM");
      await closed;
    }
  }),
];

/** sftp with lines of a batch, in a new folder; what it did, and the folder. */
async function sftp(place: SshPlace, way: Way, lines: (at: string) => readonly string[], files: Readonly<Record<string, Buffer>>) {
  const at = await mkdtemp(join(place.dir, "sftp-"));
  for (const [name, content] of Object.entries(files)) await writeFile(join(at, name), content);
  const [, ...rest] = place.line(way, {}); // but for the program, as ssh is told
  const host = rest.pop() ?? "";
  return { at, ended: await run(["sftp", ...rest, "-b", "-", host], { input: `${lines(at).join("\n")}\n`, env: place.env }) };
}

const filesOf: readonly Scenario[] = [
  does("resumes what sftp had sent and got in part", bySsh, async (place, way) => {
    const [whole, part] = [much.subarray(0, 600_000), much.subarray(0, 200_000)];
    const { at, ended } = await sftp(
      place,
      way,
      (dir) => [`put ${dir}/part /tmp/r-${way}`, `put -a ${dir}/whole /tmp/r-${way}`, `get -a /tmp/r-${way} ${dir}/half`],
      { whole, part, half: part },
    );
    expect(ended).toMatchObject({ code: 0, stderr: "" });
    expect(digest(await readFile(join(at, "half")))).toBe(digest(whole));
  }),
  does("has sftp's folders, links and room", byGateway, async (place, way) => {
    const { at, ended } = await sftp(
      place,
      way,
      (dir) => [
        ...[`mkdir /tmp/d-${way}`, `put ${dir}/one /tmp/d-${way}/one`, `ln -s one /tmp/d-${way}/link`, `ls -l /tmp/d-${way}`],
        ...[`df /tmp`, `rm /tmp/d-${way}/link`, `get -r /tmp/d-${way} ${dir}/back`, `rm /tmp/d-${way}/*`, `rmdir /tmp/d-${way}`],
      ],
      { one: Buffer.from("one\n") },
    );
    expect(ended).toMatchObject({ code: 0, stderr: "" });
    expect(ended.stdout).toMatch(/^l\S+ .*link/m);
    expect(await readFile(join(at, "back", "one"), "utf8")).toBe("one\n");
  }),
  does("ends with 1 what sftp cannot do", byGateway, async (place, way) => {
    const { ended } = await sftp(place, way, (at) => [`get /no/such ${at}/x`, "ls /"], {});
    expect({ code: ended.code, stderr: ended.stderr, wentOn: ended.stdout.includes("etc") }).toEqual({
      ...{ code: 1, stderr: expect.stringContaining("not found") as string, wentOn: false },
    });
  }),
  does("copies and synchronises by what `pitwall ssh-config` prints", ["file"], async (place, way) => {
    const at = await mkdtemp(join(place.dir, "file-"));
    await writeFile(join(at, "one"), much);
    const [, flag = "", file = "", host = ""] = place.line(way, {});
    expect(await run(["scp", flag, file, join(at, "one"), `${host}:/tmp/scp`])).toMatchObject({ code: 0 });
    expect(await run(["rsync", "-a", "-e", `ssh ${flag} ${file}`, `${host}:/tmp/scp`, join(at, "back")])).toMatchObject({ code: 0 });
    expect(digest(await readFile(join(at, "back")))).toBe(digest(much));
  }),
];

const lasting: readonly Scenario[] = [
  does("answers keepalives of a client that is otherwise idle", byGateway, async (place, way) => {
    const options = ["-o", "LogLevel=DEBUG3", "-o", "ServerAliveInterval=1", "-o", "ServerAliveCountMax=1"];
    const { code, stderr } = await ssh(place, way, options, "sleep 3");
    expect(code).toBe(0);
    expect(stderr).toMatch(/send packet: type 80[\s\S]*receive packet: type 8[12]/); // asked, and answered
  }),
  does("stays for one who says nothing for long", byGateway, async (place, way) => {
    const { code, stdout } = await ssh(place, way, [], `sleep ${quietSeconds}; echo still here`);
    expect({ code, stdout }).toEqual({ code: 0, stdout: "still here\n" });
  }),
  says("changes its keys again and again amid a megabyte both ways", byGateway, {
    options: ["-o", "RekeyLimit=256K"],
    command: ["cat"],
    input: allValues,
    stdout: allValues,
  }),
  says("changes its keys with time", byGateway, {
    options: ["-o", "RekeyLimit=default 1"],
    command: ["for i in 1 2 3 4; do sleep 1; echo $i; done"],
    stdout: "1\n2\n3\n4\n",
  }),
  says("does without the compression that is asked for", byGateway, {
    options: ["-C"],
    command: ["cat"],
    input: allValues,
    stdout: allValues,
  }),
];

const quietSeconds = 8;

const pinned = (what: string, name: string, at: readonly Way[], more: readonly string[] = []): Scenario =>
  says(`speaks ${name}`, at, { options: ["-o", `${what}=${name}`, ...more], command: ["cat"], input: some, stdout: some });
const withoutTag = ["-o", "Ciphers=aes256-ctr"]; // the others bring their own

const cryptography: readonly Scenario[] = [
  ...["aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "chacha20-poly1305@openssh.com"].map((name) =>
    pinned("Ciphers", name, byGateway),
  ),
  ...["aes128-ctr", "aes256-ctr"].map((name) => pinned("Ciphers", name, ["door"])),
  ...["hmac-sha2-256-etm@openssh.com", "hmac-sha2-512-etm@openssh.com"].map((name) => pinned("MACs", name, ["door"], withoutTag)),
  ...["curve25519-sha256", "curve25519-sha256@libssh.org"].map((name) => pinned("KexAlgorithms", name, byGateway)),
  ...["diffie-hellman-group16-sha512", "diffie-hellman-group18-sha512"].map((name) => pinned("KexAlgorithms", name, ["door"])),
  pinned("HostKeyAlgorithms", "ssh-ed25519", byGateway),
];

export const scenarios: readonly Scenario[] = [...commands, ...names, ...terminals, ...forwards, ...filesOf, ...lasting, ...cryptography];

/** Waits until the image's own program answers: forwards lead to it. */
export async function servesHello(place: SshPlace): Promise<void> {
  const { stack } = place.pitwall;
  const headers = { authorization: `Bearer ${await stack.token()}` };
  while ((await fetch(`${stack.endpoint}/vm/box/8000/hello`, { headers })).status !== 200) await systemClock.sleep(100);
}

/** ssh speaks of ports of its own before it listens on them. */
export async function accepts(port: number): Promise<boolean> {
  const socket = connect(port, "127.0.0.1");
  try {
    await once(socket, "connect");
    return true;
  } catch {
    return false;
  } finally {
    socket.destroy();
  }
}
