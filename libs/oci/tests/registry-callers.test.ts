// Several callers of one registry: each is let in with its own credentials, and with nobody else's.
import { join } from "node:path";
import { buffer } from "node:stream/consumers";
import { PitwallError } from "@pitwall/runtime";
import { expect, it } from "vitest";
import {
  Budget,
  credentialsOf,
  defaultLimits,
  LayerStore,
  openImageSources,
  type Credential,
  type CredentialsFor,
  type ImageSources,
} from "../src/index.ts";
import { imageOf, layerOf, sha256 } from "./support/layout-writer.ts";
import { repository, startRegistry, startTokenService, type RegistryServer, type Seen } from "./support/registry-server.ts";
import { scratch } from "./support/scratch.ts";
import { tarOf } from "./support/tar-writer.ts";

const image = imageOf([layerOf(tarOf([{ name: "a", content: Buffer.from("x") }]), "gzip"), layerOf(tarOf([{ name: "b" }]), "none")]);
const users = ["alice", "bob", "installation"] as const;
type User = (typeof users)[number];
const passwordOf = (username: User): Credential => ({ kind: "password", username, password: `${username}-canary` });
const headerOf = (user: User): string => `Basic ${Buffer.from(`${user}:${user}-canary`).toString("base64")}`;
const signal = AbortSignal.timeout(30_000);

interface Stand extends AsyncDisposable {
  readonly registry: RegistryServer;
  readonly tokens: RegistryServer;
  readonly reference: string;
  /** What each request to the registry was let in with. */
  readonly letIn: string[];
  sources(installation?: CredentialsFor): ImageSources;
  mine(user: User): CredentialsFor;
}

/** A registry that lets the users in that `mayRead` names, by tokens that say whose they are. */
async function stand(...mayRead: readonly User[]): Promise<Stand> {
  const letIn: string[] = [];
  const issue = ({ authorization }: Seen): string | undefined => {
    const user = users.find((one) => headerOf(one) === authorization);
    return user && mayRead.includes(user) ? `token-of-${user}` : undefined;
  };
  const tokens = await startTokenService({ issue });
  const challenge = `Bearer realm="http://${tokens.host}/token",service="test"`;
  const registry = await startRegistry(image, {
    auth({ authorization }) {
      const user = /^Bearer token-of-(.*)$/.exec(authorization ?? "")?.[1];
      if (user === undefined) return { challenge };
      letIn.push(user);
      return undefined;
    },
  });
  return {
    ...{ registry, tokens, letIn, reference: `${registry.host}/${repository}:v1` },
    sources: (installation) =>
      openImageSources({
        imageRoots: [],
        insecureRegistries: [registry.host, tokens.host],
        ...(installation && { credentialsFor: installation }),
      }),
    mine: (user) => credentialsOf([[registry.host, passwordOf(user)]]),
    async [Symbol.asyncDispose]() {
      await registry[Symbol.asyncDispose]();
      await tokens[Symbol.asyncDispose]();
    },
  };
}

const outcome = async (work: Promise<unknown>): Promise<string> =>
  work.then(
    () => "right",
    (error: unknown) => {
      if (!(error instanceof PitwallError)) throw error;
      expect(error.message).not.toContain("canary");
      return `${error.fault}: ${error.message}`;
    },
  );

it("lets nobody in with what another got, before or at the same time", async () => {
  await using at = await stand("alice");
  const sources = at.sources();
  const [alice, bob] = [at.mine("alice"), at.mine("bob")];
  expect(await outcome(sources.resolve(at.reference, signal, { credentialsFor: alice }))).toBe("right");
  for (const credentialsFor of [bob, undefined]) {
    expect(await outcome(sources.resolve(at.reference, signal, { credentialsFor }))).toMatch(/^denied: /);
  }
  const all = [alice, bob, undefined, at.mine("alice"), at.mine("bob")];
  expect(await Promise.all(all.map((credentialsFor) => outcome(sources.resolve(at.reference, signal, { credentialsFor }))))).toEqual([
    "right",
    expect.stringMatching(/^denied: .* does not take the credential/),
    expect.stringMatching(/^denied: .* does not let anybody read/),
    "right",
    expect.stringMatching(/^denied: .* does not take the credential/),
  ]);
  expect(new Set(at.letIn)).toEqual(new Set(["alice"]));
});

it("pulls layers with the caller's credentials, signed in once", async () => {
  await using at = await stand("alice", "bob");
  await using work = await scratch();
  const sources = at.sources();
  await using store = await LayerStore.open({ dir: join(work.dir, "layers"), sources, keepBytes: 2 ** 30, reserveBytes: 0 });
  const bob = at.mine("bob");
  const resolved = await sources.resolve(at.reference, signal, { credentialsFor: bob });
  {
    using pulling = store.begin(at.reference, resolved, new Budget(defaultLimits), signal, { credentialsFor: bob });
    expect((await pulling.complete).length).toBe(2);
  }
  expect(new Set(at.letIn)).toEqual(new Set(["bob"]));
  expect(at.tokens.seen).toHaveLength(1);
  const [lowest] = resolved.layers;
  if (!lowest) throw new Error("the image has layers");
  const blob = await sources.openBlob(at.reference, resolved, lowest, signal, at.mine("alice"));
  expect(sha256(await buffer(blob))).toBe(lowest.digest);
  expect(at.letIn.at(-1)).toBe("alice");
});

it("takes the installation's credentials for registries of which the caller says nothing, and only for those", async () => {
  await using at = await stand("installation");
  const sources = at.sources(at.mine("installation"));
  const elsewhere = credentialsOf([["other.example.com", passwordOf("bob")]]);
  expect(await outcome(sources.resolve(at.reference, signal))).toBe("right");
  expect(await outcome(sources.resolve(at.reference, signal, { credentialsFor: elsewhere }))).toBe("right");
  expect(await outcome(sources.resolve(at.reference, signal, { credentialsFor: at.mine("bob") }))).toMatch(/^denied: /);
});
