// A registry that others wrote, with TLS of its own authority and passwords, filled by skopeo.
import { execFile } from "node:child_process";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { PitwallError, systemClock } from "@pitwall/runtime";
import { expect, it } from "vitest";
import { Budget, defaultLimits, LayerStore, openImageSources, pushImage, type Credential, type ImageSourceOptions } from "../src/index.ts";
import type { PushOptions } from "../src/push.ts";
import { makeCertificate } from "./support/certificate.ts";
import { startDockerRegistry, type DockerRegistry } from "./support/docker-registry.ts";
import { imageOf, layerOf, sha256, writeLayout } from "./support/layout-writer.ts";
import { scratch } from "./support/scratch.ts";
import { tarOf } from "./support/tar-writer.ts";

const run = promisify(execFile);
const tars = ["one", "two", "three"].map((name) => tarOf([{ name, content: Buffer.alloc(100_000, name) }]));
const password = "right horse";
const credential: Credential = { kind: "password", username: "alice", password };
/** bcrypt of the password, which is the only form that the registry takes. */
const htpasswd = "alice:$2b$05$Lb2S7aqA1TA5GI.Su8ap8uIeJOyLOJU9ozANcB2FvT58H8iQYXcZ2\n";

it("pulls what skopeo pushed, in both formats, with TLS and a password", async () => {
  await using work = await scratch();
  await using registry = await startGuarded(work.dir);
  const layout = join(work.dir, "layout");
  await writeLayout(layout, imageOf(tars.map((tar, at) => layerOf(tar, at === 1 ? "none" : "gzip"))));
  for (const [tag, format] of [
    ["oci", "oci"],
    ["docker", "v2s2"],
  ] as const) {
    const to = `docker://${registry.host}/team/app:${tag}`;
    await run("skopeo", [
      "copy",
      "--insecure-policy",
      `--format=${format}`,
      `--dest-cert-dir=${registry.certificates}`,
      `--dest-creds=alice:${password}`,
      `oci:${layout}:test`,
      to,
    ]);
  }
  const options = { privateRegistries: [registry.host], certificates: registry.authority, credentialsFor: async () => credential };
  for (const tag of ["oci", "docker"]) {
    expect(await pull(join(work.dir, tag), `${registry.host}/team/app:${tag}`, options)).toEqual(tars.map(sha256));
  }
  const reference = `${registry.host}/team/app:oci`;
  const refusals: [Partial<ImageSourceOptions>, string, RegExp][] = [
    [
      { credentialsFor: async () => ({ ...credential, password: "wrong" }) },
      reference,
      /^denied: .* does not take the credential it was given for team\/app/,
    ],
    [{ credentialsFor: async () => undefined }, reference, /^denied: .* does not let anybody read team\/app/],
    [{ privateRegistries: [] }, reference, /^invalid: .* is on a private network/],
    [{}, `${registry.host}/team/app:missing`, /^not-found: /],
    [{}, `${registry.host}/team/none:oci`, /^not-found: /],
  ];
  for (const [change, name, message] of refusals) {
    expect(await pull(join(work.dir, "refused"), name, { ...options, ...change })).toMatch(message);
  }
  const { certificates: _, ...strangers } = options;
  expect(await pull(join(work.dir, "refused"), reference, strangers)).toMatch(
    /^unavailable: the registry .* cannot be reached: .*certificate/,
  );
});

it("pushes layouts and docker archives, and sends nothing twice", async () => {
  await using work = await scratch();
  await using registry = await startGuarded(work.dir);
  const layout = join(work.dir, "layout");
  await writeLayout(layout, imageOf(tars.map((tar, at) => layerOf(tar, at === 1 ? "none" : "gzip"))));
  const archive = join(work.dir, "archive.tar");
  await run("skopeo", ["copy", "--insecure-policy", `oci:${layout}:test`, `docker-archive:${archive}:team/app:1`]);
  const options: PushOptions = {
    insecureHosts: new Set(),
    privateHosts: new Set([registry.host]),
    certificates: registry.authority,
    credentialsFor: async () => credential,
    clock: systemClock,
    onBlob: () => undefined,
  };
  const signal = AbortSignal.timeout(30_000);
  const sources = { privateRegistries: [registry.host], certificates: registry.authority, credentialsFor: async () => credential };
  for (const [path, tag] of [
    [layout, "of-layout"],
    [archive, "of-archive"],
  ] as const) {
    const name = `${registry.host}/team/pushed:${tag}`;
    expect((await pushImage(path, undefined, name, options, signal)).sentBytes).toBeGreaterThan(0);
    expect((await pushImage(path, undefined, name, options, signal)).sentBytes).toBe(0);
    expect(await pull(join(work.dir, tag), name, sources)).toEqual(tars.map(sha256));
  }
  const name = `${registry.host}/team/pushed:no`;
  const refused = (change: Partial<PushOptions>): Promise<unknown> => pushImage(layout, undefined, name, { ...options, ...change }, signal);
  await expect(refused({ credentialsFor: async () => ({ ...credential, password: "wrong" }) })).rejects.toThrow(
    "does not take the credential",
  );
  await expect(refused({ privateHosts: new Set() })).rejects.toThrow("is on a private network");
  await expect(refused({ certificates: undefined })).rejects.toThrow("certificate");
});

/** Digests of the layers' tars, or the refusal. */
async function pull(dir: string, reference: string, options: Partial<ImageSourceOptions>): Promise<string[] | string> {
  const sources = openImageSources({ imageRoots: [], insecureRegistries: [], ...options });
  const signal = AbortSignal.timeout(30_000);
  await using store = await LayerStore.open({ dir, sources, keepBytes: 2 ** 30, reserveBytes: 0 });
  try {
    using lease = await store.lease(reference, await sources.resolve(reference, signal), new Budget(defaultLimits), signal);
    return await Promise.all(lease.files.map(async ({ path }) => sha256(await readFile(path))));
  } catch (error) {
    if (error instanceof PitwallError) return `${error.fault}: ${error.message}`;
    throw error;
  }
}

interface GuardedRegistry extends DockerRegistry {
  /** PEM. */
  readonly authority: string;
  /** The folder for skopeo. */
  readonly certificates: string;
}

/** With TLS of an authority of its own, and alice's password. */
async function startGuarded(dir: string): Promise<GuardedRegistry> {
  const certificates = join(dir, "certificates");
  await mkdir(certificates);
  const { pem, ...tls } = await makeCertificate(certificates);
  await writeFile(join(dir, "htpasswd"), htpasswd);
  const registry = await startDockerRegistry(dir, { tls, auth: { htpasswd: { realm: "test", path: join(dir, "htpasswd") } } });
  return { ...registry, authority: pem, certificates };
}
