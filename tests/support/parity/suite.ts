// Makes the suite's images, and runs each as a container and as a VM.
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { findGo, goFolders } from "@pitwall/quickstart";
import { run } from "../run.ts";
import { chosen, muslLoader, treeOf, type ParityImage, type Programs } from "./images.ts";
import { Layouts, type StoredLayer } from "./layouts.ts";

/** Compiles the probe into `dir`, static or with `loader`; its path. */
export async function compileProbe(cacheDir: string, dir: string, loader?: string): Promise<string> {
  const go = await findGo(cacheDir, () => undefined);
  const program = join(dir, loader === undefined ? "probe" : "probe-loaded");
  const source = join(import.meta.dirname, "probe", "probe.go");
  const kind = loader === undefined ? ["-ldflags=-s -w"] : ["-buildmode=pie", `-ldflags=-s -w -I ${loader}`];
  const env = { CGO_ENABLED: "0", GOTOOLCHAIN: "local", GOFLAGS: "", ...(await goFolders(cacheDir)) };
  const { code, stderr } = await run([go, "build", "-trimpath", ...kind, "-o", program, source], { env });
  if (code !== 0) throw new Error(`the probe does not compile: ${stderr}`);
  return program;
}

export interface Made {
  readonly layouts: Layouts;
  /** Where each tree is unpacked, for containers. */
  readonly trees: Readonly<Record<ParityImage["tree"], string>>;
  readonly layers: Readonly<Record<ParityImage["tree"], StoredLayer>>;
  /** References by the image's name. */
  readonly references: ReadonlyMap<string, string>;
}

/** A layer with the probe alone. */
export async function probeLayer(layouts: Layouts, probe: string): Promise<StoredLayer> {
  const program = await readFile(probe);
  return layouts.layer((tar) => tar.entry({ name: "probe", mode: 0o755 }, program));
}

/** Unpacks layers into the folder `dir`, which is not there yet; where the files are. */
export async function unpack(layouts: Layouts, name: string, layers: readonly StoredLayer[], dir: string): Promise<string> {
  await layouts.image(`tree-${name}`, layers, {});
  const { code, stderr } = await run(["umoci", "unpack", "--image", `${layouts.dir}:tree-${name}`, dir]);
  if (code !== 0) throw new Error(`umoci: ${stderr}`);
  return join(dir, "rootfs");
}

/** Compiles and finds what the trees are made of. */
export async function programsOf(cacheDir: string, dir: string): Promise<Programs> {
  return {
    probe: await readFile(await compileProbe(cacheDir, dir)),
    muslProbe: await readFile(await compileProbe(cacheDir, dir, muslLoader)),
    musl: await readFile(muslLoader),
    busybox: await readFile("/bin/busybox"),
  };
}

/** A layer that is a whole tree. */
export async function treeLayer(layouts: Layouts, tree: ParityImage["tree"], programs: Programs): Promise<StoredLayer> {
  return layouts.layer((tar) => {
    for (const { content, ...header } of treeOf(tree, programs)) tar.entry(header, content ?? "");
  });
}

/** Writes all images into one layout, and unpacks their trees as umoci does. */
export async function makeImages(cacheDir: string, dir: string): Promise<Made> {
  const layouts = await Layouts.create(join(dir, "layout"));
  const programs = await programsOf(cacheDir, dir);
  const rootOf = (tree: ParityImage["tree"]): string => join(dir, tree, "rootfs");
  const trees = { scratch: rootOf("scratch"), small: rootOf("small"), musl: rootOf("musl") };
  const layerOf = async (tree: ParityImage["tree"]): Promise<StoredLayer> => {
    const layer = await treeLayer(layouts, tree, programs);
    await unpack(layouts, tree, [layer], join(dir, tree));
    return layer;
  };
  const layers = { scratch: await layerOf("scratch"), small: await layerOf("small"), musl: await layerOf("musl") };
  const references = new Map<string, string>();
  for (const { name, tree, config } of chosen) references.set(name, await layouts.image(name, [layers[tree]], config));
  return { layouts, trees, layers, references };
}

/** The files that an engine puts over a container's, as a VM has them. */
export function etcOf(name: string): Record<string, string> {
  return {
    hostname: `${name}\n`,
    hosts: `127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n10.0.2.15\t${name}\n`,
    "resolv.conf": "nameserver 10.0.2.3\n",
  };
}
