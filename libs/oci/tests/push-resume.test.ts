// Blobs that are cut on their way to a registry that keeps what came: no byte goes twice that need not.
import { randomBytes } from "node:crypto";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { PitwallError } from "@pitwall/runtime";
import { afterAll, beforeAll, expect, it } from "vitest";
import { pushImage } from "../src/index.ts";
import { startDockerRegistry } from "./support/docker-registry.ts";
import { imageOf, layerOf, writeLayout } from "./support/layout-writer.ts";
import { hastyClock } from "./support/patience.ts";
import { startProxy, type ProxyFault } from "./support/proxy.ts";
import { pulledLayers } from "./support/pulled.ts";
import { scratch } from "./support/scratch.ts";
import { tarOf } from "./support/tar-writer.ts";
import { startUploadRegistry, type UploadRegistry, type UploadSeen } from "./support/upload-registry.ts";

const large = layerOf(tarOf([{ name: "large", content: randomBytes(4_000_000) }]), "none"); // more than a socket buffers
const image = imageOf([large]);
const sizeBytes = large.stored.length;
const partBytes = 1_000_000;
const parts = Math.ceil(sizeBytes / partBytes);
const tenths = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10];

let work: Awaited<ReturnType<typeof scratch>>;
let layout: string;

beforeAll(async () => {
  work = await scratch();
  layout = join(work.dir, "layout");
  await writeLayout(layout, image);
});

afterAll(async () => {
  await work?.[Symbol.asyncDispose]();
});

/** "right" when the image can be pulled afterwards, else the refusal. */
async function push(host: string, change: { partBytes?: number; path?: string; repository?: string } = {}): Promise<string> {
  const { path = layout, repository = "team/app", ...rest } = change;
  const options = {
    ...{ insecureHosts: new Set([host]), privateHosts: new Set<string>(), certificates: undefined, credentialsFor: async () => undefined },
    ...{ clock: hastyClock(), onBlob: () => undefined, ...rest },
  };
  try {
    await pushImage(path, undefined, `${host}/${repository}:1`, options, AbortSignal.timeout(30_000));
    expect(await pulledLayers(`${host}/${repository}:1`, [host])).toEqual([large.diffId]);
    return "right";
  } catch (error) {
    if (error instanceof PitwallError) return `${error.fault}: ${error.message}`;
    throw error;
  }
}

/** The requests about the large blob: those of the configuration's come first. */
function aboutLarge({ seen }: UploadRegistry): UploadSeen[] {
  const uploads = seen.filter(({ path }) => path.includes("/blobs/uploads/"));
  return uploads.slice(uploads.findIndex(({ method }) => method === "PUT") + 1);
}
const sentBytes = (registry: UploadRegistry): number => aboutLarge(registry).reduce((sum, { bodyBytes }) => sum + bodyBytes, 0);
const starts = (registry: UploadRegistry): number[] =>
  aboutLarge(registry).flatMap(({ contentRange }) => (contentRange === undefined ? [] : [Number(/^(\d+)-/.exec(contentRange)?.[1])]));
const count = (registry: UploadRegistry, method: string): number => aboutLarge(registry).filter((one) => one.method === method).length;

/** The `nth` request with a part of the large blob meets the fault. */
const onPart = (nth: number, fault: ProxyFault) => (kind: string, times: number) =>
  kind === "PATCH blobs/uploads/" && times === nth ? fault : undefined;

it("sends a large blob in parts, each once, and a small one whole", async () => {
  await using registry = await startUploadRegistry({ keeps: "bytes" });
  expect(await push(registry.host, { partBytes })).toBe("right");
  expect(starts(registry)).toEqual(Array.from({ length: parts }, (_, at) => at * partBytes));
  expect(aboutLarge(registry).map(({ method }) => method)).toEqual(["POST", ...Array.from({ length: parts }, () => "PATCH"), "PUT"]);
  expect(sentBytes(registry)).toBe(sizeBytes);
  await using other = await startUploadRegistry({ keeps: "bytes" });
  expect(await push(other.host)).toBe("right");
  expect(aboutLarge(other).map(({ method }) => method)).toEqual(["POST", "PUT"]);
});

it("sends parts as large as the registry wants them", async () => {
  await using registry = await startUploadRegistry({ keeps: "bytes", leastPartBytes: 2 * partBytes });
  expect(await push(registry.host, { partBytes })).toBe("right");
  expect(starts(registry)).toEqual([0, 2 * partBytes, 4 * partBytes].filter((at) => at < sizeBytes));
});

it.each(tenths)("goes on with a blob that was sent whole and cut after %i tenths of it", async (tenth) => {
  const at = Math.floor((sizeBytes * tenth) / 10);
  await using registry = await startUploadRegistry({ keeps: "bytes" });
  // The configuration goes first.
  await using proxy = await startProxy(registry.host, (kind, times) =>
    kind === "PUT blobs/uploads/" && times === 1 ? { kind: "cut", at } : undefined,
  );
  expect(await push(proxy.host)).toBe("right");
  expect(sentBytes(registry)).toBe(sizeBytes);
  expect(starts(registry)).toEqual(at === 0 || at === sizeBytes ? [] : [at]);
});

it.each(tenths)("goes on with a part that was cut after %i tenths of it", async (tenth) => {
  const at = (partBytes * tenth) / 10;
  await using registry = await startUploadRegistry({ keeps: "bytes" });
  await using proxy = await startProxy(registry.host, onPart(1, { kind: "cut", at }));
  expect(await push(proxy.host, { partBytes })).toBe("right");
  expect(sentBytes(registry)).toBe(sizeBytes);
  expect(count(registry, "POST")).toBe(1);
  expect(starts(registry)).toContain(partBytes + at);
});

it("goes on although every connection is cut, as long as each brings something", async () => {
  await using registry = await startUploadRegistry({ keeps: "bytes" });
  await using proxy = await startProxy(registry.host, (kind) =>
    kind === "PATCH blobs/uploads/" ? { kind: "cut", at: 150_000 } : undefined,
  );
  expect(await push(proxy.host, { partBytes })).toBe("right");
  expect(sentBytes(registry)).toBe(sizeBytes);
});

it("sends a part anew to a registry that keeps parts only whole", async () => {
  await using registry = await startUploadRegistry({ keeps: "whole requests" });
  await using proxy = await startProxy(registry.host, onPart(2, { kind: "cut", at: 500_000 }));
  expect(await push(proxy.host, { partBytes })).toBe("right");
  expect(starts(registry).filter((from) => from === 2 * partBytes)).toHaveLength(2);
  expect(sentBytes(registry)).toBe(sizeBytes + 500_000);
});

it("asks what came of a part whose answer was lost, or was that the registry is busy", async () => {
  for (const fault of [{ kind: "lost" }, { kind: "status", status: 503 }] as const) {
    await using registry = await startUploadRegistry({ keeps: "bytes" });
    await using proxy = await startProxy(registry.host, onPart(1, fault));
    expect(await push(proxy.host, { partBytes })).toBe("right");
    expect(sentBytes(registry)).toBe(sizeBytes);
  }
});

it("does not send again a blob of which only the last answer was lost", async () => {
  await using registry = await startUploadRegistry({ keeps: "bytes" });
  await using proxy = await startProxy(registry.host, (kind, times) =>
    kind === "PUT blobs/uploads/" && times === 1 ? { kind: "lost" } : undefined,
  );
  expect(await push(proxy.host, { partBytes })).toBe("right");
  expect(sentBytes(registry)).toBe(sizeBytes);
});

it("begins anew when the registry has forgotten the session, but not for ever", async () => {
  await using registry = await startUploadRegistry({ keeps: "no sessions" });
  await using once = await startProxy(registry.host, onPart(1, { kind: "cut", at: 100 }));
  expect(await push(once.host, { partBytes })).toBe("right");
  expect(count(registry, "POST")).toBe(2);
  await using other = await startUploadRegistry({ keeps: "no sessions" });
  await using always = await startProxy(other.host, (kind, times) =>
    kind === "PATCH blobs/uploads/" && times % 2 === 1 ? { kind: "cut", at: 100 } : undefined,
  );
  expect(await push(always.host, { partBytes })).toMatch(/^unavailable: .* it lost 4 uploads of sha256:/);
  expect(count(other, "POST")).toBe(4);
});

it("sends a blob whole where parts are refused", async () => {
  await using registry = await startUploadRegistry({ keeps: "bytes", isMonolithic: true });
  expect(await push(registry.host, { partBytes })).toBe("right");
  expect(aboutLarge(registry).map(({ method }) => method)).toEqual(["POST", "PATCH", "POST", "PUT"]);
});

it.each<[string, (bytes: number) => number]>([
  ["more than it was sent", (bytes) => bytes + 7],
  ["more than there is", () => sizeBytes * 2],
  ["less than it has", (bytes) => bytes - 7],
])("ends right or with a refusal when the registry says that it has %s", async (_, claims) => {
  await using registry = await startUploadRegistry({ keeps: "bytes", claims });
  await using proxy = await startProxy(registry.host, onPart(1, { kind: "cut", at: 500_000 }));
  expect(await push(proxy.host, { partBytes })).toMatch(/^(?:right|unavailable: .* it lost 4 uploads of sha256:)/);
  expect(sentBytes(registry)).toBeLessThan(10 * sizeBytes);
});

it("sends no last byte of a blob whose file is damaged", async () => {
  await using registry = await startUploadRegistry({ keeps: "bytes" });
  const path = join(work.dir, "damaged");
  await writeLayout(path, image);
  const damaged = Buffer.from(large.stored).fill("?", sizeBytes - 1);
  await writeFile(join(path, "blobs", "sha256", large.digest.slice("sha256:".length)), damaged);
  for (const size of [partBytes, sizeBytes]) {
    expect(await push(registry.host, { path, partBytes: size })).toMatch(/^corrupt: a layer should have digest/);
  }
  expect(Math.max(...registry.seen.map(({ bodyBytes }) => bodyBytes))).toBeLessThan(sizeBytes);
});

it("sends parts to docker-registry, and begins anew there after a cut, which it does not bear", async () => {
  await using registry = await startDockerRegistry(work.dir);
  await using proxy = await startProxy(registry.host, () => undefined);
  expect(await push(proxy.host, { partBytes })).toBe("right");
  expect(proxy.seen.filter(({ method }) => method === "PATCH")).toHaveLength(parts);
  await using cutting = await startProxy(registry.host, onPart(1, { kind: "cut", at: 500_000 }));
  expect(await push(cutting.host, { partBytes, repository: "team/other" })).toBe("right");
  expect(cutting.seen.filter(({ method }) => method === "PATCH")).toHaveLength(2 + parts);
});
