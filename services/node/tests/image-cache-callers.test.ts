// VMs of several projects that wait for one image: what one is refused says nothing about the others.
import { openImageSources, credentialsOf, type CredentialsFor } from "@pitwall/oci";
import { imageOf, layerOf, sha256 } from "@pitwall/oci/tests/support/layout-writer.ts";
import { blobPath, repository, startRegistry, type RegistryServer, type Seen } from "@pitwall/oci/tests/support/registry-server.ts";
import { scratch } from "@pitwall/oci/tests/support/scratch.ts";
import { tarOf } from "@pitwall/oci/tests/support/tar-writer.ts";
import { silentLog } from "@pitwall/runtime";
import { expect, it } from "vitest";
import { openImageCache, type ImageCache } from "../src/images/cache.ts";

const layer = layerOf(tarOf([{ name: "a", content: Buffer.from("x") }]), "gzip");
const image = imageOf([layer]);
const digest = sha256(image.manifest);
const signal = AbortSignal.timeout(50_000);
const headerOf = (user: string): string => `Basic ${Buffer.from(`${user}:secret`).toString("base64")}`;

/** A registry that lets alice in; and a way to say who asks. */
async function start(isOpen: (path: string) => boolean = () => false): Promise<RegistryServer & { as(user: string): CredentialsFor }> {
  const auth = ({ authorization, path }: Seen) =>
    authorization === headerOf("alice") || isOpen(path) ? undefined : { challenge: 'Basic realm="test"' };
  const registry = await startRegistry(image, { auth });
  return { ...registry, as: (username) => credentialsOf([[registry.host, { kind: "password", username, password: "secret" }]]) };
}

const open = (dir: string, { host }: RegistryServer): Promise<ImageCache> =>
  openImageCache({
    ...{ dir, log: silentLog, limitMs: 60_000, reserveBytes: 0 },
    sources: openImageSources({ imageRoots: [], insecureRegistries: [host] }),
  });

it.each([
  ["the image", () => false],
  ["its layers", (path: string) => !path.endsWith(blobPath(layer.stored))],
])("refuses %s to who has no right to it, and gives it to who waited with them", async (_, isOpen) => {
  await using work = await scratch();
  await using registry = await start(isOpen);
  await using cache = await open(work.dir, registry);
  const reference = `${registry.host}/${repository}:v1`;
  const asked = ["mallory", "alice", "bob", "alice"].map((user) => cache.ensure(reference, digest, signal, registry.as(user)));
  const [mallory, ...others] = await Promise.allSettled(asked);
  expect(mallory).toMatchObject({ status: "rejected", reason: { fault: "denied" } });
  const [first, bob, second] = others;
  expect([first?.status, second?.status]).toEqual(["fulfilled", "fulfilled"]);
  // Bob asks again by himself, and may find that it is there.
  expect(bob?.status === "rejected" ? String(bob.reason) : "given").toMatch(/given|does not take the credential/);
});

it("works once for all who may have the image", async () => {
  await using work = await scratch();
  await using registry = await start();
  await using cache = await open(work.dir, registry);
  const reference = `${registry.host}/${repository}:v1`;
  const asked = Array.from({ length: 5 }, () => cache.ensure(reference, digest, signal, registry.as("alice")));
  const bases = new Set((await Promise.all(asked)).map(({ base }) => base));
  expect(bases.size).toBe(1);
  expect(
    registry.seen.filter(({ path, authorization }) => path.endsWith(blobPath(layer.stored)) && authorization !== undefined),
  ).toHaveLength(1);
});
