// Certificates against OpenSSH's own: what we make it reads, what it makes we read, and what is not right is not believed.
import { execFile } from "node:child_process";
import { generateKeyPairSync, randomBytes } from "node:crypto";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { PitwallError } from "@pitwall/runtime";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import {
  believeSshCertificate,
  issueSshCertificate,
  issueSshHostCertificate,
  readSshCertificate,
  sshLineOf,
  type Expected,
} from "../src/ssh-certificate.ts";

const command = promisify(execFile);
const vm = "0b8cd7ef-74c1-4c7e-9a3c-0f4c2a1a7e11";
let dir: string;
let authority: string;

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "pitwall-certificates-"));
  for (const [name, ...kind] of [
    ["ca", "ed25519"],
    ["other-ca", "ed25519"],
    ["rsa-ca", "rsa"],
    ["ecdsa-ca", "ecdsa"],
    ["user", "ed25519"],
  ] as const)
    await keygen("-q", "-t", kind[0], "-N", "", "-C", "", "-f", join(dir, name));
  for (const kind of ["rsa", "ecdsa"]) await keygen("-q", "-t", kind, "-N", "", "-f", join(dir, `${kind}-user`));
  authority = await publicLine("ca");
});
afterAll(() => rm(dir, { recursive: true, force: true }));

const keygen = async (...args: string[]): Promise<string> => (await command("ssh-keygen", args)).stdout;
const publicLine = async (name: string): Promise<string> =>
  (await readFile(join(dir, `${name}.pub`), "utf8")).split(" ").slice(0, 2).join(" ").trim();
const blobOf = (line: string): Buffer => Buffer.from(line.split(" ")[1] ?? "", "base64");
const nowSeconds = (): bigint => BigInt(Math.floor(Date.now() / 1_000));

/** What `ssh-keygen -s` makes of a key. */
async function signed(options: readonly string[], { ca = "ca", user = "user" } = {}): Promise<Buffer> {
  await keygen("-q", "-s", join(dir, ca), ...options, join(dir, `${user}.pub`));
  return blobOf(await readFile(join(dir, `${user}-cert.pub`), "utf8"));
}
const usual = ["-I", "ada", "-n", vm, "-V", "-1m:+10m"];
const expected = (): Expected => ({ authority, principal: vm, atSeconds: nowSeconds() });

function faultOf(look: () => unknown): string {
  try {
    look();
  } catch (error) {
    return error instanceof PitwallError ? `${error.fault}: ${error.message}` : String(error);
  }
  return "believed";
}

it("believes what ssh-keygen signs with the authority", async () => {
  const blob = await signed([...usual, "-z", "7", "-O", "clear", "-O", "permit-pty", "-O", "permit-port-forwarding"]);
  expect(believeSshCertificate(blob, expected())).toMatchObject({
    ...{ publicKey: await publicLine("user"), serial: 7n, keyId: "ada", principals: [vm], criticalOptions: [], authority },
    extensions: ["permit-port-forwarding", "permit-pty"],
  });
});

it("makes what ssh-keygen reads", async () => {
  const ca = generateKeyPairSync("ed25519").privateKey;
  const content = {
    ...{
      publicKey: await publicLine("user"),
      nonce: randomBytes(32),
      serial: 2n ** 63n + 1n,
      keyId: "ada lovelace",
      principals: [vm, "zoë"],
    },
    ...{ validAfter: nowSeconds() - 30n, validBefore: nowSeconds() + 600n, extensions: ["permit-pty", "permit-port-forwarding"] },
  };
  const line = issueSshCertificate(ca, content);
  await writeFile(join(dir, "made-cert.pub"), `${line}\n`);
  const said = await keygen("-L", "-f", join(dir, "made-cert.pub"));
  for (const part of [
    'Key ID: "ada lovelace"',
    `Serial: ${content.serial}`,
    vm,
    "permit-pty",
    "permit-port-forwarding",
    "user certificate",
    "Critical Options: (none)",
  ])
    expect(said).toContain(part);
  expect(said).toContain(`Signing CA: ED25519 ${(await keygenFingerprint(sshLineOf(ca))).trim()}`);
  const { nonce: _, extensions, ...rest } = content;
  const read = believeSshCertificate(blobOf(line), { authority: sshLineOf(ca), principal: "zoë", atSeconds: nowSeconds() });
  expect(read).toMatchObject({ ...rest, extensions: extensions.toSorted() });
});

it("makes a host's, which ssh-keygen reads as such, and which is nobody's login", async () => {
  const ca = generateKeyPairSync("ed25519").privateKey;
  const line = issueSshHostCertificate(ca, {
    ...{ publicKey: await publicLine("user"), nonce: randomBytes(32), serial: 9n, keyId: vm, principals: [vm, "web"] },
    ...{ validAfter: nowSeconds() - 30n, validBefore: nowSeconds() + 600n },
  });
  await writeFile(join(dir, "host-cert.pub"), `${line}\n`);
  const said = await keygen("-L", "-f", join(dir, "host-cert.pub"));
  for (const part of ["host certificate", `Key ID: "${vm}"`, "Critical Options: (none)", "Extensions: (none)"])
    expect(said).toContain(part);
  expect(said).toMatch(new RegExp(`Principals: \\n +${vm}\\n +web\\n`));
  const believed = faultOf(() => believeSshCertificate(blobOf(line), { ...expected(), authority: sshLineOf(ca) }));
  expect(believed).toBe("invalid: the certificate must be a user's, not a host's");
});

async function keygenFingerprint(line: string): Promise<string> {
  await writeFile(join(dir, "line.pub"), `${line}\n`);
  return (await keygen("-l", "-f", join(dir, "line.pub"))).split(" ")[1] ?? "";
}

describe("does not believe", () => {
  it.each<[string, string[], { ca?: string; user?: string }?]>([
    ["unauthenticated: the certificate is of an authority that is not this installation's", usual, { ca: "other-ca" }],
    ["unauthenticated: the certificate is for something else", ["-I", "ada", "-n", "other", "-V", "-1m:+10m"]],
    ["unauthenticated: the certificate is for something else", ["-I", "ada", "-n", vm.toUpperCase(), "-V", "-1m:+10m"]],
    ["unauthenticated: the certificate is for something else", ["-I", vm, "-n", "x,y", "-V", "-1m:+10m"]],
    ["unauthenticated: the certificate names nobody", ["-I", vm, "-V", "-1m:+10m"]],
    ["unauthenticated: the certificate has expired", ["-I", "ada", "-n", vm, "-V", "-20m:-1m"]],
    ["unauthenticated: the certificate is not valid yet", ["-I", "ada", "-n", vm, "-V", "+2m:+10m"]],
    ['unauthenticated: the certificate has the condition "force-command", which is not known here', [...usual, "-O", "force-command=true"]],
    [
      'unauthenticated: the certificate has the condition "source-address", which is not known here',
      [...usual, "-O", "source-address=10.0.0.0/8"],
    ],
    ['unauthenticated: the certificate has the condition "verify-required", which is not known here', [...usual, "-O", "verify-required"]],
    [
      'unauthenticated: the certificate has the condition "x@example.org", which is not known here',
      [...usual, "-O", "critical:x@example.org"],
    ],
    ["invalid: the certificate must be a user's, not a host's", [...usual, "-h"]],
    ["invalid: the certificate must have an authority of type ssh-ed25519", usual, { ca: "rsa-ca" }],
    ["invalid: the certificate must have an authority of type ssh-ed25519", usual, { ca: "ecdsa-ca" }],
    ["invalid: the certificate must be of type ssh-ed25519-cert-v01@openssh.com", usual, { user: "rsa-user" }],
    ["invalid: the certificate must be of type ssh-ed25519-cert-v01@openssh.com", usual, { user: "ecdsa-user" }],
  ])("%s", async (why, options, who) => {
    const blob = await signed(options, who);
    expect(faultOf(() => believeSshCertificate(blob, expected()))).toBe(why);
  });

  it("any in which one bit is another", async () => {
    const blob = await signed(usual);
    for (let bit = 0; bit < blob.length * 8; bit++) {
      const changed = Buffer.from(blob);
      changed[bit >> 3] = (changed[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      expect(
        faultOf(() => believeSshCertificate(changed, expected())),
        `bit ${bit}`,
      ).toMatch(/^(?:invalid|unauthenticated): the certificate /);
    }
  });

  it("any that is cut, or goes on", async () => {
    const blob = await signed(usual);
    for (let length = 0; length < blob.length; length++)
      expect(
        faultOf(() => readSshCertificate(blob.subarray(0, length))),
        `${length} bytes`,
      ).toMatch(/^invalid: the certificate /);
    expect(faultOf(() => readSshCertificate(Buffer.concat([blob, Buffer.alloc(1)])))).toBe(
      "invalid: the certificate has something behind its end",
    );
    expect(faultOf(() => readSshCertificate(Buffer.concat([blob, Buffer.alloc(5_000)])))).toBe(
      "invalid: the certificate is longer than 4096 bytes",
    );
  });

  it("one with names that cannot be shown", async () => {
    const ca = generateKeyPairSync("ed25519").privateKey;
    const line = issueSshCertificate(ca, {
      ...{ publicKey: await publicLine("user"), nonce: randomBytes(32), serial: 1n, keyId: "ada\n[31mroot", principals: [vm] },
      ...{ validAfter: 0n, validBefore: nowSeconds() + 600n, extensions: [] },
    });
    expect(faultOf(() => readSshCertificate(blobOf(line)))).toBe("invalid: the certificate has a name that cannot be shown");
  });
});
