// What clients of SSH are refused: to whom, where to, and with which words.
import { join } from "node:path";
import { expect } from "vitest";
import { run, type Ended } from "./run.ts";
import { certify, writeAuthority } from "./ssh-authority.ts";
import type { SshPlace, Way } from "./ssh-place.ts";
import { byGateway, does, says, type Saying, type Scenario } from "./ssh-scenario.ts";

/** ssh's own, as for whatever it cannot do. */
const refused = 255;
const denied = /Permission denied \(publickey\)/;

const refuses = (name: string, at: readonly Way[], saying: Saying): Scenario =>
  says(name, at, { command: ["echo in"], code: refused, stderr: denied, ...saying });

/** With another key, or other host keys: what comes of it. */
function refusesWith(
  name: string,
  make: (place: SshPlace, way: Way) => Promise<Parameters<SshPlace["configWith"]>[0]>,
  stderr: (way: Way) => RegExp,
): Scenario {
  return does(name, byGateway, async (place, way) => {
    const config = await place.configWith(await make(place, way));
    const ended = await run(["ssh", "-F", config, way, "echo in"]);
    expect(ended).toMatchObject({ code: refused, stdout: "", stderr: expect.stringMatching(stderr(way)) as string });
  });
}

let made = 0;
const newFile = ({ dir }: SshPlace): string => join(dir, `key-${made++}`);

async function strangersKey(place: SshPlace): Promise<string> {
  const file = newFile(place);
  await run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", file]);
  return file;
}

async function publicLineOf(file: string): Promise<string> {
  const { stdout } = await run(["ssh-keygen", "-y", "-f", file]);
  return stdout.trim();
}

const logins: readonly Scenario[] = [
  refusesWith(
    "lets in no key that it does not know",
    async (place) => ({ identity: await strangersKey(place) }),
    () => denied,
  ),
  refuses("asks for no password", byGateway, { options: ["-o", "PreferredAuthentications=password,keyboard-interactive"] }),
  // Whom it knows by their key it lets in, for jumps; and says no more of what is there than of what is not.
  ...["nosuch", "0b8f7a52-9d1e-4c3a-8f60-1d2e3f4a5b6c", "box..id", "gone", "web", "box.team", "web.nowhere", "team/box"].map((name) =>
    refuses(`knows no VM ${name}`, ["door"], { options: ["-l", name], stderr: /^pitwall: there is no VM "[^"]+"\r\n$/ }),
  ),
  refuses("says that a VM does not run", ["door"], { options: ["-l", "halted"], stderr: /^pitwall: the VM halted is not running/ }),
  refuses("says that the VM has no such user", ["door"], {
    options: ["-l", "nobody9+box"],
    stderr: /^pitwall: there is no user "nobody9"/,
  }),
  refuses("lets nobody in as a user that the VM has not", ["inside", "file"], { options: ["-l", "nobody9"] }),
  refuses("gives who only jumps no session", ["door"], {
    host: "jump",
    stderr: /^pitwall: jump only leads on to VMs/,
  }),
  says("has no subsystem but sftp", byGateway, {
    options: ["-s"],
    command: ["nosuch"],
    code: refused,
    stderr: /subsystem request failed|Unable to start subsystem/,
  }),
  refusesWith(
    "is not believed with another host key than is known",
    async (place, way) => {
      const line = await publicLineOf(await strangersKey(place));
      return way === "door" ? { doorKey: line } : { vmKey: line };
    },
    () => /REMOTE HOST IDENTIFICATION HAS CHANGED|Host key verification failed/,
  ),
  refusesWith(
    "is not jumped through with another host key than is known",
    async (place) => ({ doorKey: await publicLineOf(await strangersKey(place)) }),
    () => /Host key verification failed/,
  ),
];

const cryptography: readonly Scenario[] = (
  [
    ["Ciphers=aes128-cbc", byGateway, /no matching cipher/],
    ["MACs=hmac-sha1", ["door"], /no matching MAC/],
    ["KexAlgorithms=ecdh-sha2-nistp256", byGateway, /no matching key exchange/],
    ["KexAlgorithms=diffie-hellman-group14-sha1", byGateway, /no matching key exchange/],
    ["HostKeyAlgorithms=rsa-sha2-512", byGateway, /no matching host key type/],
  ] as const
).map(([option, at, stderr]) =>
  refuses(`does not speak ${option}`, at, {
    options: ["-o", "LogLevel=INFO", "-o", option, ...(option.startsWith("MACs") ? ["-o", "Ciphers=aes256-ctr"] : [])],
    stderr,
  }),
);

/** Where the gateway would reach somebody, were it to dial. */
const nowhere: readonly (readonly [string, (place: SshPlace) => string])[] = [
  ["the gateway's own loopback", ({ pitwall }) => `127.0.0.1:${pitwall.stack.ports.web}`],
  ["the gateway's own name", ({ pitwall }) => `localhost:${pitwall.stack.ports.web}`],
  ["the metadata address", () => "169.254.169.254:80"],
  ["a private network", () => "10.0.2.2:22"],
  ["another VM's port", () => "halted:80"],
  ["a VM that is not there", () => "nosuch:22"],
  ["a port that no VM has", () => "box:0"],
];

const forwards: readonly Scenario[] = [
  ...nowhere.map(([name, where]) =>
    says(`does not dial ${name} for who jumps`, ["door"], {
      host: "jump",
      options: (place) => ["-W", where(place)],
      code: refused,
      stderr: /stdio forwarding failed|Bad stdio forwarding specification/,
    }),
  ),
  ...nowhere.slice(2).map(([name, where]) =>
    says(`does not dial ${name} for who is in a VM`, ["door"], {
      options: (place) => ["-W", where(place)],
      code: refused,
      stderr: /stdio forwarding failed|Bad stdio forwarding specification/,
    }),
  ),
  says("says so when nothing listens in the VM", byGateway, {
    options: ["-W", "127.0.0.1:9"],
    code: refused,
    stderr: /stdio forwarding failed/,
  }),
];

/** Certificates of the installation's own authority, each by the words that ssh-keygen makes it with. */
function certified(
  name: string,
  words: (place: SshPlace) => readonly string[],
  at: { readonly isGood: boolean; readonly door?: RegExp; readonly jump?: RegExp },
): Scenario {
  return does(name, byGateway, async (place, way) => {
    const [authority, key] = [newFile(place), newFile(place)];
    await writeAuthority(place.pitwall.stack.stateDir, authority);
    await certify(authority, key, words(place));
    const config = await place.configWith({ identity: key });
    const { code, stdout, stderr } = await run(["ssh", "-F", config, way, "echo in; exit 7"]);
    if (at.isGood) return void expect({ code, stdout, stderr }).toEqual({ code: 7, stdout: "in\n", stderr: "" });
    expect({ code, stdout }).toEqual({ code: refused, stdout: "" });
    expect(stderr).toMatch((way === "inside" ? at.jump : at.door) ?? denied);
  });
}

const soon = ["-V", "-1m:+5m"];

const certificates: readonly Scenario[] = [
  certified("lets in a certificate for the VM", ({ vmId }) => ["-n", vmId, ...soon], { isGood: true }),
  certified("lets in a certificate for several VMs", ({ vmId, haltedId }) => ["-n", `${haltedId},${vmId}`, ...soon], { isGood: true }),
  // Where a jump leads to is decided when it asks for a VM.
  certified("lets in no certificate for another VM", ({ haltedId }) => ["-n", haltedId, ...soon], {
    isGood: false,
    door: /^pitwall: there is no VM "box"/,
    jump: /./,
  }),
  certified("lets in no certificate that is over", ({ vmId }) => ["-n", vmId, "-V", "-20m:-1m"], { isGood: false }),
  certified("lets in no certificate that is not good yet", ({ vmId }) => ["-n", vmId, "-V", "+5m:+10m"], { isGood: false }),
  certified("lets in no certificate that names nobody", () => [...soon], { isGood: false }),
  certified("lets in no certificate with a forced command", ({ vmId }) => ["-n", vmId, ...soon, "-O", "force-command=true"], {
    isGood: false,
  }),
  certified("lets in no certificate for some addresses", ({ vmId }) => ["-n", vmId, ...soon, "-O", "source-address=127.0.0.1"], {
    isGood: false,
  }),
  does("gives a certificate no terminal and no forwards that it does not permit", byGateway, async (place, way) => {
    const [authority, key] = [newFile(place), newFile(place)];
    await writeAuthority(place.pitwall.stack.stateDir, authority);
    await certify(authority, key, ["-n", place.vmId, ...soon, "-O", "no-pty", "-O", "no-port-forwarding"]);
    const config = await place.configWith({ identity: key });
    const ended = (...words: string[]): Promise<Ended> => run(["ssh", "-F", config, ...words]);
    expect(await ended("-o", "LogLevel=INFO", "-tt", way, "tty")).toMatchObject({
      ...{ code: refused, stdout: "", stderr: expect.stringContaining("PTY allocation request failed") as string },
    });
    expect(await ended("-W", "127.0.0.1:8000", way)).toMatchObject({ code: refused, stdout: "" });
    expect((await ended("-N", "-R", "0:127.0.0.1:9", way)).stderr).toContain("remote port forwarding failed");
  }),
  does("lets in no certificate of another authority", byGateway, async (place, way) => {
    const key = newFile(place);
    await certify(await strangersKey(place), key, ["-n", place.vmId, ...soon]);
    const { code, stderr } = await run(["ssh", "-F", await place.configWith({ identity: key }), way, "true"]);
    expect(code).toBe(refused);
    expect(stderr).toMatch(denied);
  }),
];

export const refusals: readonly Scenario[] = [...logins, ...cryptography, ...forwards, ...certificates];
