// Projects, API tokens, private images and the audit log as people use them: with the `pitwall` command, through the gateway, to a real VM.
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { startDockerRegistry } from "../libs/oci/tests/support/docker-registry.ts";
import { run, type Ended } from "./support/run.ts";
import { startTestStack, type TestStack } from "./support/stack.ts";

const bin = join(import.meta.dirname, "..", "node_modules", ".bin", "pitwall");
const password = "right horse";
/** bcrypt of the password, which is the only form that the registry takes. */
const htpasswd = "alice:$2b$05$Lb2S7aqA1TA5GI.Su8ap8uIeJOyLOJU9ozANcB2FvT58H8iQYXcZ2\n";
const parts = new AsyncDisposableStack();

let pitwall: TestStack;
let dir: string;
let env: Record<string, string>;
let image: string;
let host: string;

const cli = (...args: string[]): Promise<Ended> => run([bin, ...args], { env });
const cliAs = (token: string, ...args: string[]): Promise<Ended> => run([bin, ...args], { env: { ...env, PITWALL_TOKEN: token } });

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "pitwall-access-"));
  parts.defer(() => rm(dir, { recursive: true, force: true }));
  await writeFile(join(dir, "htpasswd"), htpasswd);
  const registry = parts.use(await startDockerRegistry(dir, { auth: { htpasswd: { realm: "test", path: join(dir, "htpasswd") } } }));
  host = registry.host;
  image = `${host}/team/app:1`;
  pitwall = parts.use(await startTestStack({ insecureRegistries: [host] }));
  const auth = Buffer.from(`alice:${password}`).toString("base64");
  await writeFile(join(dir, "config.json"), JSON.stringify({ auths: { [host]: { auth } } }));
  env = {
    XDG_CONFIG_HOME: dir,
    DOCKER_CONFIG: dir,
    PITWALL_ENDPOINT: pitwall.stack.endpoint,
    PITWALL_TOKEN: await pitwall.stack.token(),
    NO_COLOR: "1",
  };
  const layout = pitwall.image.replace(/^oci:([^:]+):.*$/, "$1");
  expect(await cli("images", "push", layout, image, "--insecure")).toMatchObject({ code: 0 });
});
afterAll(() => parts.disposeAsync());

describe("a private image", () => {
  it("is refused without the project's credential, and boots with it", async () => {
    const refused = await cli("run", image, "--name", "private", "--memory", "256Mi");
    expect(refused.stderr).toMatch(/^error: .*does not let anybody read team\/app; .*add a credential for 127\.0\.0\.1/m);
    const login = ["registry", "login", host, "-u", "alice", "--password-stdin"];
    expect(await run([bin, ...login], { env, input: `${password}\n` })).toMatchObject({
      code: 0,
      stderr: `the credential for ${host} is kept\n`,
    });
    expect((await cli("registry", "ls")).stdout).toMatch(new RegExp(`^REGISTRY +USERNAME +SET\n${host} +alice +\\d+s ago\n$`));
    await cli("project", "create", "other");
    expect((await cli("images", "resolve", image, "-p", "other")).stderr).toContain("does not let anybody read");
    const ran = await cli("run", image, "--name", "private", "--memory", "256Mi");
    expect(ran).toMatchObject({ code: 0 });
    expect((await cli("get", "private", "-o", "json")).stdout).toContain('"PHASE_RUNNING"');
  });

  it("leaves its password in no row, no log and no file of the node", async () => {
    const forms = [password, Buffer.from(password).toString("base64"), Buffer.from(password).toString("hex")];
    const tables = await pitwall.query("select table_name from information_schema.tables where table_schema = 'public'");
    for (const { table_name: table } of tables) {
      const rows = await pitwall.query(
        `select 1 from "${String(table)}" as entry where entry::text like any (select '%' || unnest($1::text[]) || '%')`,
        [forms],
      );
      expect([table, rows.length]).toEqual([table, 0]);
    }
    const files = await readdir(pitwall.stack.stateDir, { recursive: true, withFileTypes: true });
    const texts = files.filter((file) => file.isFile() && /\.(json|log|jsonl)$|journal/.test(file.name));
    expect(texts.length).toBeGreaterThan(3);
    for (const { parentPath, name } of texts) {
      const text = await readFile(join(parentPath, name), "utf8");
      expect([name, forms.filter((form) => text.includes(form))]).toEqual([name, []]);
    }
  });

  it("can be refused again", async () => {
    expect(await cli("registry", "logout", host)).toMatchObject({ code: 0 });
    expect((await cli("images", "resolve", image)).stderr).toContain("does not let anybody read");
  });
});

describe("an API token", () => {
  const made = async (...args: string[]): Promise<{ id: string; secret: string }> => {
    const { stdout } = await cli("token", "create", "-o", "json", ...args);
    const { token, secret } = JSON.parse(stdout) as { token: { id: string }; secret: string };
    return { id: token.id, secret };
  };

  it("goes through the gateway as PITWALL_TOKEN, to the API and into the VM, as far as it may", async () => {
    const member = await made("--role", "member");
    expect((await cliAs(member.secret, "whoami")).stdout).toContain(member.id);
    expect((await cliAs(member.secret, "ls", "-o", "name")).stdout).toBe("private\n");
    expect(await cliAs(member.secret, "logs", "private")).toMatchObject({ code: 0 });
    const viewer = await made();
    expect(await cliAs(viewer.secret, "logs", "private")).toMatchObject({ code: 0 });
    expect((await cliAs(viewer.secret, "stop", "private")).stderr).toContain("the role of this API token is viewer; this needs member");
    const narrow = await made("--role", "member", "--method", "VmService/GetVm");
    expect(await cliAs(narrow.secret, "get", "private")).toMatchObject({ code: 0 });
    expect((await cliAs(narrow.secret, "logs", "private")).stderr).toContain("this API token is not for GuestService/ReadLogs");
    const ingress = await fetch(`${pitwall.stack.endpoint}/vm/private/80/`, { headers: { authorization: `Bearer ${narrow.secret}` } });
    expect([ingress.status, await ingress.text()]).toEqual([403, "this API token is not for ports of VMs\n"]);
  });

  it("that is damaged, forged or revoked goes no further than its words", async () => {
    const { id, secret } = await made();
    for (const text of [`${secret}x`, `pwt_${"0".repeat(16)}_${"a".repeat(43)}`])
      expect(await cliAs(text, "ls")).toMatchObject({
        code: 1,
        stderr: expect.stringContaining("does not accept PITWALL_TOKEN") as string,
      });
    const { endpoint } = pitwall.stack;
    expect(await cli("token", "revoke", id)).toMatchObject({ code: 0 });
    expect((await cliAs(secret, "ls")).stderr).toContain(`${endpoint} does not accept PITWALL_TOKEN`);
    expect((await cli("token", "ls", "-o", "name")).stdout).not.toContain(id);
  });
});

describe("the audit log", () => {
  const at = (name: string): string => join(dir, name);
  const verify = (name: string, ...args: string[]): Promise<Ended> => cli("audit", "verify", at(name), ...args);
  const lines = async (name: string): Promise<string[]> => (await readFile(at(name), "utf8")).trimEnd().split("\n");
  const write = (name: string, all: readonly string[]): Promise<void> => writeFile(at(name), all.map((line) => `${line}\n`).join(""));

  it("shows who did what, ways into VMs included, and no secret", async () => {
    await pitwall.stack.client().getStats("private");
    await pitwall.stack.client().statFile("private", "/etc/passwd");
    await expect.poll(async () => (await cli("audit", "ls", "-n", "200")).stdout, { timeout: 20_000 }).toContain("GuestService/StatFile");
    const { stdout } = await cli("audit", "ls", "-n", "200");
    expect(stdout).toMatch(/ProjectService\/SetRegistryCredential +registry\/127/);
    expect(stdout).toMatch(/VmService\/CreateVm +vm\//);
    expect(stdout).not.toContain("GetStats");
    expect(stdout).not.toContain(password);
    const filtered = await cli("audit", "ls", "--filter", 'action = "ProjectService/RevokeApiToken"', "-o", "json");
    expect(JSON.parse(filtered.stdout)).toMatchObject([{ actor: "dev" }]);
  });

  it("is exported whole, and verified with the installation's key, without a server", async () => {
    expect(await cli("audit", "export", at("first"))).toMatchObject({ code: 0 });
    await cli("project", "create", "later");
    const size = async (): Promise<number> =>
      Number((JSON.parse((await cli("audit", "head", "-o", "json")).stdout) as { head: { size: string } }).head.size);
    const before = (await lines("first")).length - 1;
    await expect.poll(size, { timeout: 20_000 }).toBeGreaterThan(before);
    expect(await cli("audit", "export", at("second"))).toMatchObject({ code: 0 });
    const key = join(pitwall.stack.stateDir, "controller", "ca", "audit.pub.pem");
    const offline = await run([bin, "audit", "verify", at("second"), "--public-key", key, "--head", at("first")], {
      env: { XDG_CONFIG_HOME: dir },
    });
    expect(offline).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(/^\d+ entries, whole and unchanged; root [0-9a-f]{64}\n$/) as string,
    });
  });

  it("names what somebody flipped, dropped, moved or cut", async () => {
    const whole = await lines("second");
    const flipped = whole.map((line, index) => (index === 4 ? line.replace(/"actor":"[^"]*"/, '"actor":"eve"') : line));
    await write("flipped", flipped);
    await write("dropped", whole.toSpliced(5, 1));
    await write("moved", [...whole.slice(0, 2), whole[3] ?? "", whole[2] ?? "", ...whole.slice(4)]);
    await write("cut", [...whole.slice(0, -3), whole.at(-1) ?? ""]);
    await write("headless", whole.slice(0, -1));
    const said = async (name: string): Promise<string> => (await verify(name)).stdout;
    expect(await said("flipped")).toBe("entry 4 was changed: it is not what its hash was made of\n");
    expect(await said("dropped")).toBe("entry 5 is missing\n");
    expect(await said("moved")).toBe("entry 2 is out of order: it comes after entry 3\n");
    const last = whole.length - 2;
    expect(await said("cut")).toBe(`entries ${last - 1} to ${last} are missing\n`);
    expect(await said("headless")).toBe(`the end is cut off: after ${last + 1} entries there is no signed head\n`);
    expect(await verify("flipped")).toMatchObject({ code: 1, stderr: expect.stringContaining("is not what was signed") as string });
    expect((await verify("first", "--head", at("second"))).stdout).toMatch(
      /^the log is shorter than it was: \d+ entries, and \d+ at the older head\n$/,
    );
  });
});
