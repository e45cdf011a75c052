// Who is told what: passwords and tokens go to the host they belong to, and requests to no address that is not allowed.
import { join } from "node:path";
import { PitwallError } from "@pitwall/runtime";
import { expect, it } from "vitest";
import { Budget, defaultLimits, LayerStore, openImageSources, type Credential, type ImageSourceOptions } from "../src/index.ts";
import { imageOf, layerOf } from "./support/layout-writer.ts";
import { hastyClock } from "./support/patience.ts";
import { blobPath, repository, startRegistry, startTokenService, type RegistryServer, type Seen } from "./support/registry-server.ts";
import { scratch } from "./support/scratch.ts";
import { tarOf } from "./support/tar-writer.ts";

const layer = layerOf(tarOf([{ name: "a", content: Buffer.from("x") }]), "gzip");
const image = imageOf([layer, layerOf(tarOf([{ name: "b" }]), "none")]);
const alice: Credential = { kind: "password", username: "alice", password: "s3cret-canary" };
const aliceBasic = `Basic ${Buffer.from("alice:s3cret-canary").toString("base64")}`;

interface Pull {
  readonly insecure: readonly RegistryServer[];
  readonly credentials?: Readonly<Record<string, Credential>>;
  readonly host?: string;
  readonly options?: Partial<ImageSourceOptions>;
}

/** "right", or the refusal. The first of `insecure` is the registry, unless `host` says another. */
async function pull({ insecure, credentials = {}, host = insecure[0]?.host ?? "", options = {} }: Pull): Promise<string> {
  await using work = await scratch();
  const sources = openImageSources({
    imageRoots: [],
    insecureRegistries: insecure.map((server) => server.host),
    credentialsFor: async (asked) => credentials[asked],
    clock: hastyClock(),
    ...options,
  });
  await using store = await LayerStore.open({ dir: join(work.dir, "layers"), sources, keepBytes: 2 ** 30, reserveBytes: 0 });
  const signal = AbortSignal.timeout(20_000);
  try {
    const reference = `${host}/${repository}:v1`;
    using _ = await store.lease(reference, await sources.resolve(reference, signal), new Budget(defaultLimits), signal);
    return "right";
  } catch (error) {
    if (!(error instanceof PitwallError)) throw error;
    expect(JSON.stringify([error.message, String(error.cause)])).not.toContain("canary");
    return `${error.fault}: ${error.message}`;
  }
}

const bearer = (realm: string) => `Bearer realm="${realm}",service="test",scope="repository:${repository}:pull"`;

/** Lets in with a token that was issued, each token for so many answers. */
function tokens(usesPerToken = Number.POSITIVE_INFINITY) {
  const left = new Map<string, number>();
  const issued: string[] = [];
  return {
    issued,
    issue: (): string => {
      const token = `token-canary-${issued.length}`;
      issued.push(token);
      left.set(`Bearer ${token}`, usesPerToken);
      return token;
    },
    isGood: ({ authorization = "" }: Seen): boolean => {
      const uses = left.get(authorization) ?? 0;
      left.set(authorization, uses - 1);
      return uses > 0;
    },
  };
}

const authorizations = (server: RegistryServer): (string | undefined)[] => server.seen.map(({ authorization }) => authorization);

it("gets an anonymous token, and one for all layers", async () => {
  const desk = tokens();
  await using service = await startTokenService({ issue: desk.issue });
  await using registry = await startRegistry(image, {
    auth: (seen) => (desk.isGood(seen) ? undefined : { challenge: bearer(`http://${service.host}/token`) }),
  });
  expect(await pull({ insecure: [registry, service] })).toBe("right");
  expect(desk.issued).toHaveLength(1);
  expect(service.seen[0]?.path).toBe(`/token?service=test&scope=repository%3A${repository.replace("/", "%2F")}%3Apull`);
  expect(authorizations(service)).toEqual([undefined]);
});

it("gets a token with a password, which the registry itself never sees", async () => {
  const desk = tokens();
  await using service = await startTokenService({
    issue: ({ authorization }) => (authorization === aliceBasic ? desk.issue() : undefined),
  });
  await using registry = await startRegistry(image, {
    auth: (seen) => (desk.isGood(seen) ? undefined : { challenge: bearer(`http://${service.host}/token`) }),
  });
  expect(await pull({ insecure: [registry, service], credentials: { [registry.host]: alice } })).toBe("right");
  expect(authorizations(service)).toEqual([aliceBasic]);
  expect(authorizations(registry)).not.toContain(aliceBasic);
  expect(await pull({ insecure: [registry, service] })).toMatch(
    /denied: .* does not let anybody read team\/app; check the name, or add a credential/,
  );
  expect(await pull({ insecure: [registry, service], credentials: { [registry.host]: { ...alice, password: "wrong-canary" } } })).toMatch(
    /denied: .* does not take the credential/,
  );
});

it("gets a new token each time one runs out, in the middle of a pull", async () => {
  const desk = tokens(2);
  await using service = await startTokenService({ issue: desk.issue });
  await using registry = await startRegistry(image, {
    auth: (seen) => (desk.isGood(seen) ? undefined : { challenge: bearer(`http://${service.host}/token`) }),
    fault: (path, count) => (path === blobPath(layer.stored) && count < 3 ? { kind: "cut", at: 20 * (count + 1) } : undefined),
  });
  expect(await pull({ insecure: [registry, service] })).toBe("right");
  expect(desk.issued.length).toBeGreaterThan(2);
});

it("trades a refresh token for one that reads", async () => {
  const desk = tokens();
  await using service = await startTokenService({
    issue: ({ form }) => (new URLSearchParams(form).get("refresh_token") === "refresh-canary" ? desk.issue() : undefined),
  });
  await using registry = await startRegistry(image, {
    auth: (seen) => (desk.isGood(seen) ? undefined : { challenge: bearer(`http://${service.host}/token`) }),
  });
  expect(
    await pull({ insecure: [registry, service], credentials: { [registry.host]: { kind: "refresh-token", token: "refresh-canary" } } }),
  ).toBe("right");
  expect(service.seen[0]).toMatchObject({ path: "/token", authorization: undefined });
});

it("signs in with a password, or a token that it was given", async () => {
  await using basic = await startRegistry(image, {
    auth: ({ authorization }) => (authorization === aliceBasic ? undefined : { challenge: 'Basic realm="test"' }),
  });
  expect(await pull({ insecure: [basic], credentials: { [basic.host]: alice } })).toBe("right");
  expect(await pull({ insecure: [basic] })).toMatch(/denied: .* add a credential/);
  expect(await pull({ insecure: [basic], credentials: { [basic.host]: { ...alice, password: "wrong-canary" } } })).toMatch(
    /denied: .* does not take the credential/,
  );
  await using ready = await startRegistry(image, {
    auth: ({ authorization }) => (authorization === "Bearer ready-canary" ? undefined : { challenge: "Bearer" }),
  });
  expect(await pull({ insecure: [ready], credentials: { [ready.host]: { kind: "bearer", token: "ready-canary" } } })).toBe("right");
});

it("takes no credential along when it is sent to another host", async () => {
  for (const address of ["127.0.0.1", "127.0.0.2"]) {
    await using store = await startRegistry(image, { address });
    await using registry = await startRegistry(image, {
      auth: ({ authorization }) => (authorization === aliceBasic ? undefined : { challenge: "Basic" }),
      fault: (path) => (path.startsWith("blobs/") ? { kind: "redirect", to: `http://${store.host}/v2/${repository}/${path}` } : undefined),
    });
    expect(
      await pull({
        insecure: [registry, store],
        credentials: { [registry.host]: alice, [store.host]: { ...alice, password: "other-canary" } },
      }),
    ).toBe("right");
    expect(store.seen.length).toBeGreaterThan(0);
    expect(authorizations(store).filter((header) => header !== undefined)).toEqual([]);
  }
});

it("keeps the credential on a redirect within the host, and loses it for good when the way leads elsewhere and back", async () => {
  const auth = ({ authorization }: Seen) => (authorization === aliceBasic ? undefined : { challenge: "Basic" });
  await using within = await startRegistry(image, {
    auth,
    fault: (path, count) =>
      path.startsWith("blobs/") && count === 0 ? { kind: "redirect", to: `/v2/${repository}/${path}?once` } : undefined,
  });
  expect(await pull({ insecure: [within], credentials: { [within.host]: alice } })).toBe("right");
  const way: { back?: string } = {};
  await using elsewhere = await startRegistry(image, {
    fault: (path) => ({ kind: "redirect", to: `http://${way.back}/v2/${repository}/${path}?back` }),
  });
  await using registry = await startRegistry(image, {
    auth,
    fault: (path) =>
      path.startsWith("blobs/") ? { kind: "redirect", to: `http://${elsewhere.host}/v2/${repository}/${path}` } : undefined,
  });
  way.back = registry.host;
  expect(await pull({ insecure: [registry, elsewhere], credentials: { [registry.host]: alice } })).toMatch(/denied|unavailable/);
  expect(registry.seen.filter(({ path, authorization }) => path.endsWith("?back") && authorization !== undefined)).toEqual([]);
});

it("answers nobody's question but the registry's", async () => {
  await using thief = await startRegistry(image, { auth: () => ({ challenge: "Basic" }) });
  await using registry = await startRegistry(image, {
    auth: ({ authorization }) => (authorization === aliceBasic ? undefined : { challenge: "Basic" }),
    fault: (path) => (path.startsWith("blobs/") ? { kind: "redirect", to: `http://${thief.host}/v2/${repository}/${path}` } : undefined),
  });
  expect(await pull({ insecure: [registry, thief], credentials: { [registry.host]: alice } })).toMatch(
    /unavailable: .* redirects to .*, which answers 401/,
  );
  expect(authorizations(thief).filter((header) => header !== undefined)).toEqual([]);
});

it("gives a password to no token service on a foreign host", async () => {
  const desk = tokens();
  await using foreign = await startTokenService({ issue: desk.issue, address: "127.0.0.2" });
  await using registry = await startRegistry(image, {
    auth: (seen) => (desk.isGood(seen) ? undefined : { challenge: bearer(`http://${foreign.host}/token`) }),
  });
  expect(await pull({ insecure: [registry, foreign], credentials: { [registry.host]: alice } })).toBe("right");
  expect(authorizations(foreign)).toEqual([undefined]);
  expect(await pull({ insecure: [registry, foreign], credentials: { [foreign.host]: alice } })).toBe("right");
  expect(authorizations(foreign)).toEqual([undefined, aliceBasic]);
});

it("takes no token that would be more than one header", async () => {
  await using service = await startTokenService({ issue: () => "a\r\nx-evil: 1" });
  await using registry = await startRegistry(image, { auth: () => ({ challenge: bearer(`http://${service.host}/token`) }) });
  expect(await pull({ insecure: [registry, service] })).toMatch(/denied/);
});

const refused = /invalid: image: .* is on a private network; an administrator can allow it in PITWALL_PRIVATE_REGISTRIES/;

it.each([
  "127.0.0.1:5000",
  "localhost:5000",
  "[::1]:5000",
  "[::ffff:127.0.0.1]:5000",
  "10.0.0.1",
  "169.254.169.254",
  "192.168.0.1:5000",
  "0.0.0.0:5000",
  "100.64.0.1:5000",
])("does not connect to %s, which nobody allowed", async (host) => {
  expect(await pull({ insecure: [], host })).toMatch(refused);
});

it.each([
  "https://169.254.169.254/latest",
  "https://127.0.0.1:1/",
  "https://[::1]/",
  "https://localhost/",
  "https://2130706433/",
  "https://0x7f000001/",
  "https://[::ffff:7f00:1]/",
])("follows no redirect to %s", async (to) => {
  await using registry = await startRegistry(image, {
    fault: (path) => (path.startsWith("blobs/") ? { kind: "redirect", to } : undefined),
  });
  expect(await pull({ insecure: [registry] })).toMatch(refused);
});

it.each([
  "https://169.254.169.254/token",
  "https://127.0.0.1:1/token",
  "https://localhost/token",
  "http://127.0.0.1:1/token",
  "file:///etc/passwd",
  "not a url",
])("asks no token service at %s", async (realm) => {
  await using registry = await startRegistry(image, { auth: () => ({ challenge: bearer(realm) }) });
  expect(await pull({ insecure: [registry], credentials: { [registry.host]: alice } })).toMatch(
    /invalid: .* private network|unavailable: .* plain HTTP is not allowed|denied/,
  );
});

it("speaks no plain HTTP to a host that is only allowed to be private", async () => {
  await using registry = await startRegistry(image);
  expect(await pull({ insecure: [], host: registry.host, options: { privateRegistries: [registry.host] } })).toMatch(
    /unavailable: the registry .* cannot be reached/,
  );
  expect(registry.seen).toHaveLength(0);
});
