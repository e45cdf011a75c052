// What the image cache frees, and what it must not: with real layers and file systems, and a VMM that only looks whether its base is there.
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { readdir, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Readable } from "node:stream";
import { setImmediate as turn } from "node:timers/promises";
import type { ImageSources, LayerDescriptor, ResolvedImage } from "@pitwall/oci";
import { emptyConfig } from "@pitwall/oci/tests/support/empty-config.ts";
import { scratch } from "@pitwall/oci/tests/support/scratch.ts";
import { tarOf } from "@pitwall/oci/tests/support/tar-writer.ts";
import { Assignment, type VmReport } from "@pitwall/proto/pitwall/v1/link.ts";
import { Desired, Phase, VmSpec } from "@pitwall/proto/pitwall/v1/vm.ts";
import { PitwallError, silentLog, identify } from "@pitwall/runtime";
import { expect, it } from "vitest";
import { openImageCache, type ImageCache } from "../src/images/cache.ts";
import { openMachines } from "../src/machine/machines.ts";
import { openIngredients } from "../src/machine/prepare.ts";
import type { VmmDriver } from "../src/machine/vmm.ts";
import { openSimDriver } from "../src/sim/driver.ts";
import { realHost } from "./support/real-host.ts";

const sha256 = (data: Buffer | string): string => `sha256:${createHash("sha256").update(data).digest("hex")}`;
const never = new AbortController().signal;
const all = { digests: [], keepDigests: [], dryRun: false };

const tars = new Map(["a", "b", "c", "d"].map((name) => [name, tarOf([{ name, content: Buffer.alloc(20_000, name) }])]));
const layerOf = (name: string): LayerDescriptor => {
  const tar = tars.get(name) ?? Buffer.alloc(0);
  return { digest: sha256(tar), diffId: sha256(tar), sizeBytes: tar.length, compression: "none" };
};
const images = new Map(
  ["ab", "ac", "bcd", "d"].map((names): [string, ResolvedImage] => {
    const layers = [...names].map(layerOf);
    const sizeBytes = layers.reduce((sum, layer) => sum + layer.sizeBytes, 0);
    return [names, { reference: names, digest: sha256(names), sizeBytes, config: emptyConfig, layers }];
  }),
);
const digestOf = (names: string): string => sha256(names);
const sources: ImageSources = {
  async resolve(reference) {
    const found = images.get(reference);
    if (!found) throw new PitwallError("not-found", "no such image");
    return found;
  },
  async openBlob(_reference, _image, layer) {
    const tar = [...tars.values()].find((content) => sha256(content) === layer.digest);
    return Readable.from([tar]);
  },
};

const open = (dir: string): Promise<ImageCache> => openImageCache({ dir, sources, log: silentLog, limitMs: 60_000 });
const contents = async (dir: string): Promise<string[]> => [
  ...(await readdir(join(dir, "bases"))),
  ...(await readdir(join(dir, "layers"))),
];

it("lists what it holds and frees by name what no other image has", async () => {
  await using work = await scratch();
  {
    await using first = await open(work.dir);
    for (const names of ["ab", "ac"]) await first.ensure(names, digestOf(names), never);
  }
  await using cache = await open(work.dir);
  const layerBytes = tars.get("a")?.length ?? 0;
  const [one] = (await cache.list()).filter(({ digest }) => digest === digestOf("ab"));
  expect(one).toMatchObject({ references: ["ab"], layerBytes: 2 * layerBytes });
  expect(await cache.digests()).toEqual([digestOf("ab"), digestOf("ac")].toSorted());
  using _ = cache.lease(digestOf("ac"));
  const meant = { ...all, digests: [digestOf("ab"), digestOf("ac")] };
  const freed = { digests: [digestOf("ab")], baseBytes: one?.baseBytes, layerBytes, digestsInUse: [digestOf("ac")] };
  expect(await cache.free({ ...meant, dryRun: true })).toEqual(freed);
  expect(await contents(work.dir)).toHaveLength(4 + 6);
  expect(await cache.free(meant)).toEqual(freed);
  expect(await contents(work.dir)).toHaveLength(2 + 4);
  expect((await cache.list()).map(({ references }) => references)).toEqual([["ac"]]);
  expect(await cache.digests()).toEqual([digestOf("ac")]);
});

it("frees nothing that the controller wants kept, and makes again what was freed", async () => {
  await using work = await scratch();
  await using cache = await open(work.dir);
  const { base } = await cache.ensure("d", digestOf("d"), never);
  expect((await cache.free({ ...all, keepDigests: [digestOf("d")] })).digests).toEqual([]);
  await expect.poll(async () => (await cache.free(all)).digests).toEqual([digestOf("d")]); // kept in the meantime
  await expect(stat(base)).rejects.toThrow("ENOENT");
  expect((await cache.ensure("d", digestOf("d"), never)).convertMs).toBeDefined();
  expect((await stat(base)).size).toBeGreaterThan(0);
});

it("frees nothing while another agent uses the folder, and all again when that has died", async () => {
  await using work = await scratch();
  await using cache = await open(work.dir);
  const other = spawn("sleep", ["60"]);
  const identity = identify(other.pid ?? 0);
  await writeFile(join(work.dir, "agents", `${identity?.pid}.${identity?.startTicks}`), "");
  await expect(cache.free(all)).rejects.toThrow("another agent uses this image cache: give each its own PITWALL_CACHE_DIR");
  const gone = new Promise((resolve) => other.once("close", resolve));
  other.kill("SIGKILL");
  await gone;
  expect(await cache.free(all)).toMatchObject({ digests: [] });
  expect(await readdir(join(work.dir, "agents"))).toHaveLength(1);
});

it("gives no base away that is being removed, whenever it is asked for", async () => {
  await using work = await scratch();
  await using cache = await open(work.dir);
  for (let round = 0; round < 200; round++) {
    await cache.ensure("d", digestOf("d"), never);
    await expect.poll(() => readdir(join(work.dir, "bases")), { interval: 1 }).toHaveLength(2); // its own lease is over
    const freed = cache.free(all);
    for (let left = round % 50; left > 0; left--) await turn();
    using _ = cache.lease(digestOf("d"));
    const { base } = await cache.ensure("d", digestOf("d"), never);
    await freed;
    expect((await stat(base)).size, `round ${round}`).toBeGreaterThan(0);
  }
});

const seeds = Number(process.env["PITWALL_SEEDS"] ?? 6);
it(`holds on to what is leased while others free it (${seeds} seeds)`, async () => {
  for (let seed = 1; seed <= seeds; seed++) {
    await using work = await scratch();
    let state = seed;
    const below = (limit: number): number => {
      state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
      return Math.floor((state / 2 ** 32) * limit);
    };
    const turns = async (): Promise<void> => {
      for (let left = below(8); left > 0; left--) await turn();
    };
    let looks = 0;
    {
      await using cache = await open(work.dir);
      const act = async (): Promise<void> => {
        const names = [...images.keys()][below(images.size)] ?? "";
        const digest = digestOf(names);
        switch (below(6)) {
          case 0:
            return void (await cache.free(all));
          case 1:
            return void (await cache.free({ ...all, digests: [digest] }));
          case 2: {
            const leaving = new AbortController();
            const pulling = cache.ensure(names, digest, leaving.signal).catch(() => undefined);
            await turns();
            leaving.abort(new Error("left"));
            return void (await pulling);
          }
          default: {
            using _ = cache.lease(digest);
            await turns();
            const { base } = await cache.ensure(names, digest, never);
            for (let left = 3; left > 0; left--) {
              expect((await stat(base)).size, `seed ${seed}: ${names}`).toBeGreaterThan(0);
              looks++;
              await turns();
            }
          }
        }
      };
      const actor = async (): Promise<void> => {
        for (let left = 15; left > 0; left--) {
          await turns();
          await act();
        }
      };
      await Promise.all(Array.from({ length: 6 }, actor));
    }
    expect(looks).toBeGreaterThan(50);
    await using again = await open(work.dir);
    await again.free(all);
    expect(await contents(work.dir), `seed ${seed}`).toEqual([]);
  }
});

it("never takes an image from a VM of the journal, from its first assignment until it is gone", async () => {
  await using work = await scratch();
  let cache = await open(work.dir);
  const initramfs = join(work.dir, "initramfs.cpio");
  await writeFile(initramfs, "");
  let freeing: Promise<unknown> = Promise.resolve();
  const sim = openSimDriver();
  const driver: VmmDriver = {
    ...sim,
    async start({ base }) {
      expect((await cache.free(all)).digests).toEqual([]);
      expect((await stat(base)).size).toBeGreaterThan(0);
      throw new PitwallError("unavailable", "it looked", { reason: "LOOKED" });
    },
  };
  const reports: VmReport[] = [];
  const openAll = async (): ReturnType<typeof openMachines> => {
    const own = cache;
    const { clock, failpoints, ...host } = realHost(work.dir);
    return openMachines({
      ...{ ...host, clock, failpoints, driver },
      ingredients: openIngredients({
        images: own,
        initramfs,
        cacheDir: work.dir,
        wiring: driver.wiring,
        sshUserAuthorities: () => [],
        clock,
        failpoints,
      }),
      onReport: (report) => {
        reports.push(report);
        freeing = Promise.all([freeing, own.free(all)]); // at each step that it takes
      },
    });
  };
  const assignment = Assignment.fromPartial({
    ...{ vmId: crypto.randomUUID(), vmName: "vm", generation: 1n, epoch: 1n, desired: Desired.DESIRED_RUNNING, imageDigest: digestOf("d") },
    spec: VmSpec.fromPartial({ image: "d", cpuMillis: 1000, memBytes: 2n ** 28n, diskBytes: 2n ** 26n }),
  });
  await cache.ensure("d", digestOf("d"), never);
  const machines = await openAll();
  const applied = machines.apply({ assignments: [assignment], complete: true });
  const freed = cache.free(all); // the journal is being written
  await applied;
  expect((await freed).digests).toEqual([]);
  await expect.poll(() => reports.at(-1)?.reason).toBe("LOOKED");
  await machines.close();
  // An agent that has started again, and a VM that is stopped.
  await freeing;
  await cache[Symbol.asyncDispose]();
  cache = await open(work.dir);
  const again = await openAll();
  expect((await cache.free(all)).digests).toEqual([]);
  await again.apply({
    assignments: [{ ...assignment, generation: 2n, desired: Desired.DESIRED_DELETED, imageDigest: "" }],
    complete: false,
  });
  await expect.poll(() => reports.at(-1)?.phase).toBe(Phase.PHASE_GONE);
  await freeing;
  await again.close();
  await cache.free(all);
  expect((await cache.list()).map(({ digest }) => digest)).toEqual([]);
  await cache[Symbol.asyncDispose]();
});
