// What signs in to registries stays where it belongs: in none of the places where operators, users or other programs could read it.
import { readFileSync } from "node:fs";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { imageOf, layerOf, type WrittenImage } from "@pitwall/oci/tests/support/layout-writer.ts";
import {
  blobPath,
  repository,
  startRegistry,
  startTokenService,
  type Fault,
  type RegistryServer,
  type Seen,
} from "@pitwall/oci/tests/support/registry-server.ts";
import { tarOf } from "@pitwall/oci/tests/support/tar-writer.ts";
import { Phase, PullState, type RegistrySecret } from "@pitwall/sdk";
import { afterAll, beforeAll, expect, it } from "vitest";
import { Canaries, Search } from "./support/canaries.ts";
import { run } from "./support/run.ts";
import { startTestStack, type TestStack } from "./support/stack.ts";

const username = "puller";
const guestMemBytes = 2 ** 28;
const canaries = new Canaries();
const parts = new AsyncDisposableStack();
/** As in `~/.docker/config.json`. */
const auths: Record<string, Readonly<Record<string, string>>> = {};
const hosts: string[] = [];
/** What a project signs in with, by registry. */
const secrets = new Map<string, RegistrySecret>();
/** References by what becomes of them. */
const readable: string[] = [];
const unreadable: string[] = [];

let pitwall: TestStack;
let dir: string;
/** Images so far. Each registry has another one: what a node holds it does not pull. */
let images = 0;
/** Of an image that the controller finds, and no node can pull. */
let failing = "";

const basicOf = (password: string): string => `Basic ${Buffer.from(`${username}:${password}`).toString("base64")}`;
const sealed = (password: string): Readonly<Record<string, string>> => ({ auth: basicOf(password).slice("Basic ".length) });
/** Says back what it was sent, as careless servers do. */
const refusalOf = (scheme: string, { authorization = "" }: Seen): { challenge: string; body: string } => ({
  challenge: `${scheme} realm="no ${authorization}"`,
  body: JSON.stringify({ errors: [{ code: "UNAUTHORIZED", message: `not you: ${authorization}` }] }),
});

/** It runs with the arguments of the VM that is to run it. */
function newImage(): WrittenImage {
  const busybox = { name: "busybox", mode: 0o755, content: readFileSync("/bin/busybox") };
  return imageOf([layerOf(tarOf([busybox, { name: `image${images++}` }]), "gzip")]);
}

type Behaviour = NonNullable<Parameters<typeof startRegistry>[1]>;

/** A registry that takes the header, or nobody, with its entry in the file; what it gives away otherwise is in `more`. */
async function registry(
  entry: Readonly<Record<string, string>> | undefined,
  header: string | undefined,
  { image = newImage(), ...more }: Behaviour & { readonly image?: WrittenImage } = {},
): Promise<RegistryServer> {
  const scheme = header?.split(" ")[0] ?? "Basic";
  const auth = (seen: Seen) => (header !== undefined && seen.authorization === header ? undefined : refusalOf(scheme, seen));
  const started = parts.use(await startRegistry(image, { auth, ...more }));
  if (entry) auths[started.host] = entry;
  hosts.push(started.host);
  return started;
}

const referenceOf = ({ host }: RegistryServer): string => `${host}/${repository}:v1`;

/** A registry whose token service gives `token` to who shows the right thing. */
async function withTokens(
  entry: Readonly<Record<string, string>> | undefined,
  mayHave: (seen: Seen) => boolean,
  token: string,
): Promise<RegistryServer> {
  const service = parts.use(await startTokenService({ issue: (seen) => (mayHave(seen) ? token : undefined) }));
  hosts.push(service.host);
  const challenge = `Bearer realm="http://${service.host}/token",service="test"`;
  return registry(entry, undefined, { auth: ({ authorization }) => (authorization === `Bearer ${token}` ? undefined : { challenge }) });
}

const tokenOf = (secret: string): string => Buffer.from(secret).toString("base64url");

async function startRegistries(): Promise<void> {
  const add = (what: string): string => canaries.add(what);

  const [inAuth, inFields, bearer] = [add("a password in auth"), add("a password in its field"), tokenOf(add("a bearer token"))];
  readable.push(referenceOf(await registry(sealed(inAuth), basicOf(inAuth))));
  readable.push(referenceOf(await registry({ username, password: inFields }, basicOf(inFields))));
  readable.push(referenceOf(await registry({ registrytoken: bearer }, `Bearer ${bearer}`)));

  const [identity, traded] = [add("an identity token"), tokenOf(add("a token for an identity token"))];
  const shows = ({ form }: Seen): boolean => new URLSearchParams(form).get("refresh_token") === identity;
  readable.push(referenceOf(await withTokens({ identitytoken: identity }, shows, traded)));
  const [password, issued] = [add("a password for a token service"), tokenOf(add("a token for a password"))];
  readable.push(referenceOf(await withTokens(sealed(password), ({ authorization }) => authorization === basicOf(password), issued)));

  // A store elsewhere, which is asked with a signature in the address.
  const signed = async (what: string, where: string): Promise<string> => {
    const [own, signature] = [add(`a password before ${what}`), encodeURIComponent(add(what))];
    const image = newImage();
    const store = parts.use(await startRegistry(image));
    hosts.push(store.host);
    const fault: Behaviour["fault"] = (path) =>
      path.startsWith("blobs/") ? { kind: "redirect", to: `http://${store.host}${where}${path}?signature=${signature}` } : undefined;
    return referenceOf(await registry(sealed(own), basicOf(own), { image, fault }));
  };
  readable.push(await signed("a signed address", `/v2/${repository}/`));
  unreadable.push(await signed("a signed address of nothing", "/nothing/"));

  const wrong = [sealed(add("a wrong password")), { registrytoken: tokenOf(add("a wrong bearer token")) }];
  for (const entry of wrong) unreadable.push(referenceOf(await registry(entry, undefined)));
  for (const entry of [{ identitytoken: add("a wrong identity token") }, sealed(add("a wrong password for a token service"))]) {
    unreadable.push(referenceOf(await withTokens(entry, () => false, tokenOf(add("a token that nobody gets")))));
  }
  const faults: Readonly<Record<string, Fault>> = {
    "a server that fails": { kind: "status", status: 500 },
    "a server that is gone": { kind: "status", status: 404 },
    "a forbidden part": { kind: "status", status: 403 },
    "other bytes": { kind: "other", content: Buffer.from("other") },
  };
  // Once where the controller asks, and once where the node does.
  for (const [what, fault] of Object.entries(faults)) {
    for (const isLayer of [false, true]) {
      const own = add(`a password for ${what}, ${isLayer ? "a layer" : "a manifest"}`);
      const image = newImage();
      const faulty = isLayer ? blobPath(image.layers[0]!.stored) : "manifests/v1";
      const more = { image, fault: (path: string) => (path === faulty ? fault : undefined) };
      const reference = referenceOf(await registry(sealed(own), basicOf(own), more));
      unreadable.push(reference);
      if (isLayer) failing = reference;
    }
  }
  auths["127.0.0.1:9"] = sealed(add("a password for nobody at home"));
  hosts.push("127.0.0.1:9");
  unreadable.push(`127.0.0.1:9/${repository}:v1`);

  const [owned, ownToken] = [add("a password of a project"), add("an identity token of a project")];
  const theirs = await registry(undefined, basicOf(owned));
  secrets.set(theirs.host, { username, password: owned });
  const mayTrade = ({ form }: Seen): boolean => new URLSearchParams(form).get("refresh_token") === ownToken;
  const trading = await withTokens(undefined, mayTrade, tokenOf(add("a token for a project")));
  secrets.set(trading.host, { identityToken: ownToken });
  const partial = add("a password for a missing layer of a project");
  const image = newImage();
  const layer = blobPath(image.layers[0]!.stored);
  const missing = (path: string): Fault | undefined => (path === layer ? { kind: "status", status: 404 } : undefined);
  const lacking = await registry(undefined, basicOf(partial), { image, fault: missing });
  secrets.set(lacking.host, { username, password: partial });
  for (const elsewhere of ["https://index.docker.io/v1/", "ghcr.io"]) auths[elsewhere] = sealed(add(`a password for ${elsewhere}`));
}

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "pitwall-secrets-"));
  await startRegistries();
  const file = join(dir, "credentials.json");
  await writeFile(file, JSON.stringify({ auths }), { mode: 0o600 });
  const shared = { PITWALL_LOG_LEVEL: "debug", PITWALL_REGISTRY_CREDENTIALS_FILE: file };
  pitwall = await startTestStack({
    insecureRegistries: hosts,
    env: { controller: shared, node: { ...shared, PITWALL_CACHE_DIR: join(dir, "cache") }, gateway: { PITWALL_LOG_LEVEL: "debug" } },
  });
});

afterAll(async () => {
  await pitwall?.[Symbol.asyncDispose]();
  await parts[Symbol.asyncDispose]();
  await rm(dir, { recursive: true, force: true });
});

/** What a pull through the API ends with. */
async function pull(reference: string): Promise<string> {
  const told: string[] = [];
  try {
    for await (const { state, reason, message } of pitwall.stack.client().pullImage(reference)) {
      if (state === PullState.PULL_STATE_DONE) return "done";
      told.push(reason, message);
    }
  } catch (error) {
    told.push(JSON.stringify(error), String(error));
  }
  return told.join(" ");
}

it("lets in, and is refused with errors that do not have it", { timeout: 300_000 }, async () => {
  const { vms } = pitwall.stack.client();
  expect(await Promise.all(readable.map(pull))).toEqual(readable.map(() => "done"));
  for (const answer of await Promise.all(unreadable.map(pull))) {
    expect(answer).not.toBe("done");
    expect(canaries.in(Buffer.from(answer)), answer).toEqual([]);
  }
  await vms.create({
    name: "kept",
    spec: { image: readable[0] ?? "", args: ["/busybox", "sleep", "1000000"], diskBytes: 2n ** 26n, memBytes: BigInt(guestMemBytes) },
  });
  await vms.create({ name: "failed", spec: { image: failing } });
  expect(await vms.wait("kept")).toMatchObject({ phase: Phase.PHASE_RUNNING });
  const { phase, message } = await vms.wait("failed");
  expect(phase).toBe(Phase.PHASE_FAILED);
  expect(canaries.in(Buffer.from(message))).toEqual([]);
});

it("is in the memory of those only who sign in with it, and in nobody's arguments or environment", { timeout: 300_000 }, async () => {
  const { issuer, controller, node, gateway } = pitwall.stack.services;
  const agents = [controller.pid()!, node.pid()!];
  const all = await family([...agents, issuer.pid()!, gateway.pid()!]);
  expect([...all.values()]).toEqual(expect.arrayContaining(["postgres", expect.stringMatching(/^qemu-system/) as string]));
  const others = new Search(canaries);
  for (const pid of all.keys()) await others.words(pid);
  const control = new Search(canaries);
  try {
    for (const pid of agents) await control.memory(pid);
  } catch (error) {
    console.warn(`skipped: the memory of processes cannot be read: ${String(error)}`);
    expect([...others.places]).toEqual([]);
    return;
  }
  for (const [pid, name] of all) {
    const before = others.seenBytes;
    if (!agents.includes(pid)) await others.memory(pid);
    if (name.startsWith("qemu-system")) expect(others.seenBytes - before).toBeGreaterThan(guestMemBytes); // the guest's is in it
  }
  expect([...others.places]).toEqual([]);
  expect(control.found.size).toBeGreaterThan(0);
  console.info(`${Math.round(others.seenBytes / 2 ** 20)} MiB of memory looked through`);
});

it("is sealed where it is a project's, and in no log, journal, table or file but its own", { timeout: 300_000 }, async () => {
  const { vms, projects } = pitwall.stack.client();
  const phases: Phase[] = [];
  for (const [host, secret] of secrets) {
    const reference = `${host}/${repository}:v1`;
    expect(await pull(reference), "without a credential").not.toBe("done");
    await projects.setRegistryCredential("", host, secret);
    const { id } = await vms.create({ spec: { image: reference, args: ["/busybox", "sleep", "1000000"], diskBytes: 2n ** 26n } });
    const { phase, message } = await vms.wait(id);
    phases.push(phase);
    expect(canaries.in(Buffer.from(message)), message).toEqual([]);
  }
  expect(phases).toEqual([Phase.PHASE_RUNNING, Phase.PHASE_RUNNING, Phase.PHASE_FAILED]); // the last image lacks a layer
  expect(canaries.in(Buffer.from(JSON.stringify(await projects.registryCredentials())))).toEqual([]);
  const typed = await pull(`${username}:${canaries.add("a password in a reference")}@${hosts[0]}/${repository}:v1`);
  expect(canaries.in(Buffer.from(typed)), typed).toEqual([]);
  const search = new Search(canaries);
  await pitwall.query("checkpoint");
  for (const { name } of await pitwall.query("select table_name as name from information_schema.tables where table_schema = 'public'")) {
    const rows = await pitwall.query(`select "${String(name)}"::text as row from "${String(name)}"`);
    search.bytes(`table ${String(name)}`, Buffer.from(rows.map(({ row }) => String(row)).join("\n")));
  }
  await search.folder(pitwall.stack.stateDir);
  await search.folder(join(dir, "cache"));
  expect([...search.places]).toEqual([]);
  console.info(`${canaries.names.length} secrets, ${Math.round(search.seenBytes / 2 ** 20)} MiB of files looked through`);

  // The same look finds each of them where it is meant to be.
  const control = new Search(canaries);
  control.bytes("the credentials", await readFile(join(dir, "credentials.json")));
  const elsewhere = /^a token|^a signed|in a reference$|a project$/;
  expect([...control.found].toSorted()).toEqual(canaries.names.filter((name) => !elsewhere.test(name)).toSorted());
  expect(canaries.names.length).toBeGreaterThanOrEqual(20);
});

/** These processes and all that they have started, with their names. */
async function family(pids: readonly number[]): Promise<Map<number, string>> {
  const rows = (await run(["ps", "-eo", "pid=,ppid=,comm="])).stdout.trim().split("\n");
  const found = new Map<number, string>();
  const known = rows
    .map((row) => row.trim().split(/\s+/))
    .map(([pid, parent, name = ""]) => ({ pid: Number(pid), parent: Number(parent), name }));
  for (let size = -1; size !== found.size;) {
    size = found.size;
    for (const { pid, parent, name } of known) if (pids.includes(pid) || found.has(parent)) found.set(pid, name);
  }
  return found;
}
