// What is wrong is named, with the remedy, and leaves nothing behind.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { startDockerRegistry, type DockerRegistry } from "@pitwall/oci/tests/support/docker-registry.ts";
import { Phase, Pitwall, type CreateVmOptions } from "@pitwall/sdk";
import { importJWK, SignJWT, type JWK } from "jose";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { writeLayout } from "./support/layout.ts";
import { run, type Ended } from "./support/run.ts";
import { deleteVm, startTestStack, type TestStack } from "./support/stack.ts";

const root = join(import.meta.dirname, "..");
let pitwall: TestStack;
let dir: string;
let registry: DockerRegistry;

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "pitwall-bad-"));
  registry = await startDockerRegistry(dir);
  pitwall = await startTestStack({ insecureRegistries: [registry.host] });
});

afterAll(async () => {
  await pitwall?.[Symbol.asyncDispose]();
  await registry?.[Symbol.asyncDispose]();
  await rm(dir, { recursive: true, force: true });
});

/** After each refusal: no row, no folder, no process. */
afterEach(async () => {
  expect(await pitwall.query("select name from vm")).toEqual([]);
  expect(await readdir(join(pitwall.stack.stateDir, "node", "vms"))).toEqual([]);
  expect((await run(["pgrep", "-fa", `qemu-system.*${pitwall.stack.stateDir}`])).stdout).toBe("");
});

const create = (options: Partial<CreateVmOptions> & { spec: CreateVmOptions["spec"] }): Promise<unknown> =>
  pitwall.stack.client().vms.create({ name: "bad", ...options });

describe("an image", () => {
  it("that does not exist in its registry", async () => {
    await expect(create({ spec: { image: `${registry.host}/no/such:1` } })).rejects.toMatchObject({
      code: "NOT_FOUND",
      message: expect.stringContaining(`${registry.host}/no/such`) as string,
    });
  });

  it("whose registry does not answer", async () => {
    await expect(create({ spec: { image: "127.0.0.1:9/no/such:1" } })).rejects.toMatchObject({
      message: expect.stringMatching(/127\.0\.0\.1:9/) as string,
    });
  });

  it("that is no reference at all", async () => {
    await expect(create({ spec: { image: "Not An Image" } })).rejects.toMatchObject({ code: "INVALID_ARGUMENT", field: "spec.image" });
  });

  it("in a folder that was not opened for images", async () => {
    await expect(create({ spec: { image: "oci:/etc" } })).rejects.toMatchObject({
      message: expect.stringContaining("PITWALL_IMAGE_ROOTS") as string,
    });
  });

  it("in a folder that is not there", async () => {
    await expect(create({ spec: { image: `oci:${join(dir, "nothing")}` } })).rejects.toMatchObject({
      code: "NOT_FOUND",
      message: expect.stringContaining("nothing") as string,
    });
  });

  it.each([
    ["of another architecture", { architecture: "arm64" }, "arm64"],
    ["of another system", { os: "windows" }, "windows"],
  ])("%s", async (_, options, word) => {
    const image = await writeLayout(join(dir, word), options);
    await expect(create({ spec: { image } })).rejects.toMatchObject({
      code: "FAILED_PRECONDITION",
      message: expect.stringContaining(word) as string,
    });
  });

  it.each([
    [
      "with a layer that is not what its digest says",
      "flipped",
      (layer: Buffer) => Buffer.from(layer.map((byte, at) => (at === 600 ? byte ^ 1 : byte))),
    ],
    ["with a layer that was cut off", "cut", (layer: Buffer) => layer.subarray(0, 700)],
  ])("%s, when its node reads it", async (_, name, damage) => {
    const image = await writeLayout(join(dir, name), { damage });
    await create({ spec: { image } });
    const failed = await pitwall.stack.client().vms.wait("bad");
    expect(failed).toMatchObject({
      phase: Phase.PHASE_FAILED,
      reason: expect.stringMatching(/^IMAGE_/) as string,
      message: expect.stringMatching(/sha256:[0-9a-f]{12}/) as string,
    });
    expect((await run(["find", "/var/cache/pitwall/images", "-name", "*.tmp"])).stdout).toBe("");
    await deleteVm(pitwall.stack, "bad");
  });
});

describe("a VM", () => {
  it("that asks for more memory than any node has", async () => {
    await expect(create({ spec: { image: pitwall.image, memBytes: 2n ** 45n } })).rejects.toMatchObject({
      code: expect.stringMatching(/RESOURCE_EXHAUSTED|INVALID_ARGUMENT/) as string,
      message: expect.stringMatching(/mem/i) as string,
    });
    await expect(create({ spec: { image: pitwall.image, memBytes: 2n ** 38n } })).rejects.toMatchObject({
      code: "RESOURCE_EXHAUSTED",
      reason: "NO_CAPACITY",
      message: expect.stringMatching(/not enough memory \(wanted 262144 MiB, free \d+ MiB\)/) as string,
    });
  });

  it.each(["Web", "-web", "web_1", "a".repeat(64)])("named %s", async (name) => {
    await expect(create({ name, spec: { image: pitwall.image } })).rejects.toMatchObject({ code: "INVALID_ARGUMENT", field: "name" });
  });

  it("whose name is used", async () => {
    await create({ name: "taken", spec: { image: pitwall.image } });
    await expect(create({ name: "taken", spec: { image: pitwall.image } })).rejects.toMatchObject({
      code: "ALREADY_EXISTS",
      reason: "NAME_TAKEN",
      field: "name",
    });
    await deleteVm(pitwall.stack, "taken");
  });

  it("made twice by one request is made once; the request id with other words is refused", async () => {
    const requestId = crypto.randomUUID();
    const [first, second] = [
      await create({ name: "once", requestId, spec: { image: pitwall.image } }),
      await create({ name: "once", requestId, spec: { image: pitwall.image } }),
    ];
    expect(second).toMatchObject({ id: (first as { id: string }).id });
    await expect(create({ name: "other", requestId, spec: { image: pitwall.image } })).rejects.toMatchObject({
      code: "INVALID_ARGUMENT",
      field: "request_id",
    });
    await deleteVm(pitwall.stack, "once");
  });
});

describe("a token", () => {
  async function signed(change: (jwt: SignJWT) => SignJWT): Promise<Pitwall> {
    const { signingKey } = JSON.parse(await readFile(join(pitwall.stack.stateDir, "issuer", "secrets.json"), "utf8")) as {
      signingKey: JWK;
    };
    const issuer = `http://127.0.0.1:${pitwall.stack.ports.issuer}`;
    const jwt = new SignJWT({}).setProtectedHeader({ alg: "ES256", kid: signingKey.kid ?? "", typ: "at+jwt" });
    const filled = change(jwt.setIssuer(issuer).setAudience("pitwall").setSubject("dev").setIssuedAt().setExpirationTime("5m"));
    return new Pitwall({ endpoint: pitwall.stack.endpoint, token: await filled.sign(await importJWK(signingKey, "ES256")) });
  }

  it("like these is taken when nothing is wrong with it", async () => {
    expect(await (await signed((jwt) => jwt)).getProfile()).toMatchObject({ subject: "dev" });
  });

  it.each([
    ["that has expired", (jwt: SignJWT) => jwt.setIssuedAt("-2h").setExpirationTime("-1h"), /expired/],
    ["of another issuer", (jwt: SignJWT) => jwt.setIssuer("https://evil.example"), /iss/],
    ["for another audience", (jwt: SignJWT) => jwt.setAudience("other"), /aud/],
  ])("%s", async (_, change, message) => {
    await expect((await signed(change)).getProfile()).rejects.toMatchObject({
      code: "UNAUTHENTICATED",
      message: expect.stringMatching(message) as string,
    });
  });
});

describe("a service", () => {
  /** Runs it to its end; it must come to one by itself. */
  async function start(name: string, env: Record<string, string>): Promise<Ended> {
    const stateDir = await mkdtemp(join(dir, "service-"));
    const line = [process.execPath, join(root, "services", name, "src", "main.ts")];
    const ended = await run(line, {
      env: { PITWALL_STATE_DIR: stateDir, PITWALL_LOG_LEVEL: "error", PITWALL_ISSUER: "http://127.0.0.1:9", ...env },
      timeoutMs: 30_000,
    });
    expect((await run(["pgrep", "-fa", stateDir])).stdout).toBe("");
    return ended;
  }

  const lastLine = ({ stderr }: Ended): string => stderr.trim().split("\n").at(-1) ?? "";

  it("node, with a join token that was used", async () => {
    const { join: text } = await pitwall.stack.client().createJoinToken("node");
    const provisioned = { PITWALL_DRIVER: "sim", PITWALL_JOIN: text, PITWALL_NAME: "second", ...paths() };
    const first = spawn(process.execPath, [join(root, "services/node/src/main.ts")], {
      env: { ...process.env, ...provisioned, PITWALL_STATE_DIR: join(dir, "second") },
      stdio: ["ignore", "pipe", "ignore"],
    });
    await once(first.stdout, "data");
    const second = await start("node", { ...provisioned, PITWALL_NAME: "third" });
    first.kill();
    expect(second.code).toBe(1);
    expect(lastLine(second)).toMatch(
      /^error: the controller did not let this host join: this join token was used already; make a new one with `pitwall join-token`/,
    );
    expect((await pitwall.stack.client().listNodes()).map(({ name }) => name)).not.toContain("third");
  });

  it("node, with no join token", async () => {
    const ended = await start("node", { PITWALL_DRIVER: "sim", ...paths() });
    expect(ended.code).toBe(2);
    expect(lastLine(ended)).toContain("pitwall join-token");
  });

  it("node, on a host without QEMU", async () => {
    const empty = join(dir, "empty");
    await mkdir(empty, { recursive: true });
    const ended = await start("node", { PITWALL_DRIVER: "qemu", PATH: empty, ...paths() });
    expect(ended.code).toBe(1);
    expect(lastLine(ended)).toContain("error: qemu-system-x86_64 is missing: install the Debian package qemu-system-x86");
  });

  it("controller, with a database that is down", async () => {
    const ended = await start("controller", {
      PITWALL_DATABASE_URL: "postgres://nobody@127.0.0.1:9/none",
      PITWALL_LISTEN: "127.0.0.1:0",
      PITWALL_LINK_LISTEN: "127.0.0.1:0",
    });
    expect(ended.code).toBe(1);
    expect(lastLine(ended)).toMatch(/^error: the database cannot be used: .*127\.0\.0\.1:9/);
  });

  it("controller, on a port that is taken", async () => {
    const ended = await start("controller", { PITWALL_LISTEN: `127.0.0.1:${pitwall.stack.ports.api}`, PITWALL_LINK_LISTEN: "127.0.0.1:0" });
    expect(ended.code).toBe(1);
    expect(lastLine(ended)).toContain(`cannot listen on 127.0.0.1:${pitwall.stack.ports.api}`);
  });

  it("controller, with every fault of its configuration at once", async () => {
    const ended = await start("controller", { PITWALL_ISSUER: "not a url", PITWALL_LEASE: "soon" });
    expect(ended.code).toBe(2);
    expect(lastLine(ended)).toMatch(/PITWALL_ISSUER: .*PITWALL_LEASE: expected a duration/);
  });

  it("issuer, anywhere but on loopback", async () => {
    const ended = await start("issuer", { PITWALL_LISTEN: "0.0.0.0:0" });
    expect(ended.code).toBe(2);
    expect(lastLine(ended)).toContain("must be a loopback address");
  });
});

it("a node's disk that is full", async () => {
  // A small file system of its own below the node's state.
  const vms = join(pitwall.stack.stateDir, "node", "vms");
  expect(await run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", vms])).toMatchObject({ code: 0 });
  try {
    await create({ spec: { image: pitwall.image } });
    const failed = await pitwall.stack.client().vms.wait("bad");
    expect(failed).toMatchObject({
      phase: Phase.PHASE_FAILED,
      reason: "DISK_FULL",
      message: expect.stringContaining("disk is full") as string,
    });
    await deleteVm(pitwall.stack, "bad");
    expect(await readdir(vms)).toEqual([]);
  } finally {
    await run(["umount", "-l", vms]);
  }
});

function paths(): Record<string, string> {
  const { kernel, modulesDir, powerunit } = pitwall.provisioned;
  return { PITWALL_KERNEL: kernel, PITWALL_MODULES_DIR: modulesDir, PITWALL_POWERUNIT: powerunit };
}
