// Pushes to a real registry, through a network and a sign-in that are made to fail: they end right or with a clear error.
import { randomBytes } from "node:crypto";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { PitwallError } from "@pitwall/runtime";
import { afterAll, beforeAll, expect, it } from "vitest";
import { pushImage, type Credential } from "../src/index.ts";
import type { PushOptions } from "../src/push.ts";
import { makeCertificate, type Certificate } from "./support/certificate.ts";
import { startDockerRegistry, type DockerRegistry } from "./support/docker-registry.ts";
import { imageOf, layerOf, sha256, writeLayout } from "./support/layout-writer.ts";
import { hastyClock } from "./support/patience.ts";
import { startProxy, type Proxy, type ProxyFault } from "./support/proxy.ts";
import { pulledLayers } from "./support/pulled.ts";
import { startTokenService, type RegistryServer } from "./support/registry-server.ts";
import { issuer, service, signToken } from "./support/registry-token.ts";
import { scratch } from "./support/scratch.ts";
import { tarOf } from "./support/tar-writer.ts";

const large = layerOf(tarOf([{ name: "large", content: randomBytes(4_000_000) }]), "none"); // more than a socket buffers
const small = layerOf(tarOf([{ name: "small", content: Buffer.from("small") }]), "gzip");
const image = imageOf([large, small]);
const sizeBytes = image.config.length + large.stored.length + small.stored.length;
const alice: Credential = { kind: "password", username: "alice", password: "s3cret-canary" };
const aliceBasic = `Basic ${Buffer.from("alice:s3cret-canary").toString("base64")}`;

let work: Awaited<ReturnType<typeof scratch>>;
let layout: string;
let registry: DockerRegistry;
let repositories = 0;

beforeAll(async () => {
  work = await scratch();
  layout = join(work.dir, "layout");
  await writeLayout(layout, image);
  registry = await startDockerRegistry(work.dir);
});

afterAll(async () => {
  await registry?.[Symbol.asyncDispose]();
  await work?.[Symbol.asyncDispose]();
});

interface Push {
  /** Of the registry, or what stands before it. */
  readonly host: string;
  readonly insecure?: readonly string[];
  readonly credentials?: Readonly<Record<string, Credential>>;
  readonly change?: Partial<PushOptions>;
  readonly path?: string;
  readonly signal?: AbortSignal;
}

/** Pushes into a repository of its own, and pulls again from `source`: "right", or the refusal, after which there must be no image. */
async function push(
  { host, insecure = [host], credentials = {}, change = {}, path = layout, signal = AbortSignal.timeout(30_000) }: Push,
  source: string | undefined = registry.host,
): Promise<string> {
  const repository = `team/app-${repositories++}`;
  const options: PushOptions = {
    insecureHosts: new Set(insecure),
    privateHosts: new Set(),
    certificates: undefined,
    credentialsFor: async (asked) => credentials[asked],
    clock: hastyClock(),
    onBlob: () => undefined,
    ...change,
  };
  try {
    const { sentBytes, digest } = await pushImage(path, undefined, `${host}/${repository}:1`, options, signal);
    expect(digest).toBe(sha256(image.manifest));
    expect(sentBytes).toBe(sizeBytes);
    const pulled =
      source === host
        ? pulledLayers(`${source}/${repository}:1`, insecure, credentials)
        : pulledLayers(`${source}/${repository}:1`, [source]);
    expect(await pulled).toEqual([large.diffId, small.diffId]);
    return "right";
  } catch (error) {
    if (!(error instanceof PitwallError)) throw error;
    expect(JSON.stringify([error.message, String(error.cause)])).not.toContain("canary");
    if (source === registry.host) {
      expect((await fetch(`http://${source}/v2/${repository}/manifests/1`, { headers: { accept: "*/*" } })).status).toBe(404);
    }
    return `${error.fault}: ${error.message}`;
  }
}

const blob = "PUT blobs/uploads/";
const kinds = ["HEAD blobs", "POST blobs/uploads/", blob, "PUT manifests"] as const;
const on = (kind: string, fault: ProxyFault, most = Number.POSITIVE_INFINITY) => {
  return (asked: string, times: number): ProxyFault | undefined => (asked === kind && times < most ? fault : undefined);
};
const count = (proxy: Proxy, method: string): number => proxy.seen.filter((seen) => seen.method === method).length;

it.each([0, 10, 20, 30, 40, 50, 60, 70, 80, 90])(
  "sends anew, to a registry that keeps nothing of it, a blob that is cut after %i hundredths of it",
  async (hundredths) => {
    const at = Math.floor((large.stored.length * hundredths) / 100);
    // The configuration goes first, then the large layer.
    await using proxy = await startProxy(registry.host, (kind, times) => (kind === blob && times === 1 ? { kind: "cut", at } : undefined));
    expect(await push({ host: proxy.host })).toBe("right");
    expect(count(proxy, "POST")).toBe(4);
    expect(count(proxy, "PUT")).toBe(3 + 1 + 1);
  },
);

it.each(kinds)("asks again when the answer to %s is lost", async (kind) => {
  await using proxy = await startProxy(registry.host, on(kind, { kind: "lost" }, 2));
  expect(await push({ host: proxy.host })).toBe("right");
});

it("takes a blob for sent that the registry has, also when every answer is lost", async () => {
  await using proxy = await startProxy(registry.host, on(blob, { kind: "lost" }));
  expect(await push({ host: proxy.host })).toBe("right");
  expect(count(proxy, "PUT")).toBe(3 + 1);
});

it.each(kinds.flatMap((kind) => [429, 500, 503].map((status) => [kind, status] as const)))(
  "asks again when %s is answered with %i",
  async (kind, status) => {
    await using proxy = await startProxy(registry.host, on(kind, { kind: "status", status }, 2));
    expect(await push({ host: proxy.host })).toBe("right");
  },
);

it.each(kinds)("waits before it asks %s again as long as it is told to", async (kind) => {
  const clock = hastyClock();
  await using proxy = await startProxy(registry.host, on(kind, { kind: "status", status: 429, headers: { "retry-after": "7" } }, 1));
  expect(await push({ host: proxy.host, change: { clock } })).toBe("right");
  expect(clock.waits).toContain(7000);
});

it.each<[string, ProxyFault, RegExp]>([
  ["cuts every blob", { kind: "cut", at: 100 }, /^unavailable: the registry .* cannot be reached: /],
  ["always answers 500", { kind: "status", status: 500 }, /^unavailable: the registry .* cannot be reached: it answers 500/],
  ["always answers 429", { kind: "status", status: 429 }, /^unavailable: the registry .* asks to slow down; try again later/],
  [
    "wants us back in a day",
    { kind: "status", status: 503, headers: { "retry-after": "86400" } },
    /^unavailable: the registry .* asks to come back in 86400 s/,
  ],
  ["finds a blob too large", { kind: "status", status: 413 }, /^state: the registry .* does not take the image: it answers 413/],
  ["forbids it", { kind: "status", status: 403 }, /^denied: image: the registry .* does not let anybody push to team\/app-\d+/],
  ["redirects a blob", { kind: "status", status: 307, headers: { location: "/v2/" } }, /^unavailable: .* it answers 307/],
])("says so when the registry %s", async (_, fault, message) => {
  await using proxy = await startProxy(registry.host, on(blob, fault));
  expect(await push({ host: proxy.host })).toMatch(message);
  expect(count(proxy, "PUT")).toBeLessThanOrEqual(4);
});

it("says so when the registry is not there, and when it names no place for a blob", async () => {
  expect(await push({ host: "127.0.0.1:1" })).toMatch(/^unavailable: the registry 127\.0\.0\.1:1 cannot be reached/);
  await using proxy = await startProxy(registry.host, on("POST blobs/uploads/", { kind: "status", status: 202 }));
  expect(await push({ host: proxy.host })).toMatch(/^unavailable: .* it names no address for a blob/);
});

it("sends no image whose file is damaged", async () => {
  const flipped = Buffer.from(large.stored.map((byte, at) => (at === large.stored.length >> 1 ? byte ^ 1 : byte)));
  for (const [name, content, message] of [
    ["flipped", flipped, /^corrupt: a layer should have digest/],
    ["short", large.stored.subarray(0, -1), /^corrupt: layer .* ends too early/],
    ["long", Buffer.concat([large.stored, large.stored]), /^corrupt: layer .* is longer than/],
  ] as const) {
    const path = join(work.dir, name);
    await writeLayout(path, image);
    await writeFile(join(path, "blobs", "sha256", large.digest.slice("sha256:".length)), content);
    expect(await push({ host: registry.host, path }), name).toMatch(message);
  }
});

it("ends at once when it is told to, in the middle of a blob", async () => {
  const leaving = new AbortController();
  await using proxy = await startProxy(registry.host, (kind) => {
    if (kind === blob) leaving.abort(new Error("told to"));
    return undefined;
  });
  await expect(push({ host: proxy.host, signal: leaving.signal })).rejects.toThrow("told to");
});

it("tells storage on another host nothing about who pushes", async () => {
  await using storage = await startProxy(registry.host, () => undefined);
  const fault = (kind: string, _: number, { authorization }: { authorization: string | undefined }): ProxyFault | undefined => {
    if (authorization !== aliceBasic) return { kind: "status", status: 401, headers: { "www-authenticate": "Basic" } };
    return kind === "POST blobs/uploads/" ? { kind: "elsewhere", host: storage.host } : undefined;
  };
  await using proxy = await startProxy(registry.host, fault);
  const credentials = { [proxy.host]: alice, [storage.host]: { ...alice, password: "other-canary" } };
  expect(await push({ host: proxy.host, insecure: [proxy.host, storage.host], credentials })).toBe("right");
  expect(storage.seen.map(({ authorization }) => authorization)).toEqual([undefined, undefined, undefined]);
  expect(await push({ host: proxy.host, credentials })).toMatch(/^unavailable: .* plain HTTP is not allowed/);
});

/** A registry that lets in with tokens of a service, which gives them for alice's password or refresh token. */
async function startWithTokens(
  dir: string,
  narrow: (scope: string, issued: number) => string,
): Promise<
  AsyncDisposable & { readonly host: string; readonly desk: RegistryServer; readonly scopes: string[]; readonly signing: Certificate }
> {
  const signing = await makeCertificate(dir);
  const scopes: string[] = [];
  const desk = await startTokenService({
    issue({ authorization, form, path }) {
      const asked = new URLSearchParams(form === "" ? path.replace(/^.*\?/, "") : form);
      if (authorization !== aliceBasic && asked.get("refresh_token") !== "refresh-canary") return undefined;
      const scope = asked.get("scope") ?? "";
      scopes.push(scope);
      return signToken(signing, "alice", narrow(scope, scopes.length));
    },
  });
  const token = { realm: `http://${desk.host}/token`, service, issuer, rootcertbundle: signing.certificate };
  const { host, ...guarded } = await startDockerRegistry(dir, { auth: { token } });
  return {
    ...{ host, desk, scopes, signing },
    async [Symbol.asyncDispose]() {
      await guarded[Symbol.asyncDispose]();
      await desk[Symbol.asyncDispose]();
    },
  };
}

it("signs in at a token service, by password or refresh token, once for a whole push", async () => {
  await using dir = await scratch();
  await using guarded = await startWithTokens(dir.dir, (scope) => scope);
  await using proxy = await startProxy(guarded.host, () => undefined);
  const insecure = [proxy.host, guarded.desk.host];
  const credentials: Credential[] = [alice, { kind: "refresh-token", token: "refresh-canary" }];
  for (const credential of credentials) {
    guarded.scopes.length = 0;
    expect(await push({ host: proxy.host, insecure, credentials: { [proxy.host]: credential } }, proxy.host)).toBe("right");
    // One for the push, and one for the pull that looks at it.
    expect(guarded.scopes).toEqual([expect.stringMatching(/:pull,push$/), expect.stringMatching(/:pull$/)]);
  }
  expect(proxy.seen.filter(({ authorization = "" }) => /canary|^Basic/.test(authorization))).toEqual([]);
  const wrong = { ...alice, password: "wrong-canary" };
  for (const [given, message] of [
    [{}, /^denied: .* does not let anybody push to team\/app-\d+; check the name, or add a credential/],
    [{ [proxy.host]: wrong }, /^denied: .* does not take the credential it was given for team\/app-\d+/],
  ] as const) {
    expect(await push({ host: proxy.host, insecure, credentials: given }, proxy.host)).toMatch(message);
  }
});

it("is refused by a registry whose service gives it leave to read alone", async () => {
  await using dir = await scratch();
  await using guarded = await startWithTokens(dir.dir, (scope) => scope.replace(",push", ""));
  const insecure = [guarded.host, guarded.desk.host];
  expect(await push({ host: guarded.host, insecure, credentials: { [guarded.host]: alice } }, guarded.host)).toMatch(
    /^denied: .* does not take the credential it was given for team\/app-\d+/,
  );
});

it.each(kinds)("gets a new token when the first has run out by the time of %s", async (expired) => {
  await using dir = await scratch();
  await using guarded = await startWithTokens(dir.dir, (scope) => scope);
  const challenge = `Bearer realm="http://${guarded.desk.host}/token",service="${service}"`;
  const first: { token?: string | undefined } = {};
  await using proxy = await startProxy(guarded.host, (kind, _, { authorization }) => {
    first.token ??= authorization;
    const isOver = kind === expired && authorization !== undefined && authorization === first.token;
    return isOver ? { kind: "status", status: 401, headers: { "www-authenticate": challenge } } : undefined;
  });
  const insecure = [proxy.host, guarded.desk.host];
  expect(await push({ host: proxy.host, insecure, credentials: { [proxy.host]: alice } }, proxy.host)).toBe("right");
  expect(guarded.scopes.filter((scope) => scope.endsWith(":pull,push"))).toHaveLength(2);
});
