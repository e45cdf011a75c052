// No name that stands in an image becomes a name on the host: conversions of hostile layers, watched from outside.
import { execFile } from "node:child_process";
import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { expect, it } from "vitest";
import { openConfinement } from "../src/index.ts";
import type { Outcomes } from "./support/convert-all.ts";
import { file, harmless, plain, refused } from "./support/hostile-corpus.ts";
import { imageOf, writeLayout, type WrittenLayer } from "./support/layout-writer.ts";
import { scratch } from "./support/scratch.ts";
import { tarOf } from "./support/tar-writer.ts";
import { traced, whyNoTrace, type FileCall } from "./support/trace.ts";

const run = promisify(execFile);
const program = fileURLToPath(new URL("support/convert-all.ts", import.meta.url));
const why = await whyNoTrace();
const { output } = await openConfinement();

/** All names that may be used below the folder of a run. */
const ourNames =
  /^(?:|layouts|layouts\/\w+|layouts\/\w+\/(?:oci-layout|index\.json|blobs(?:\/sha256(?:\/[0-9a-f]{64})?)?)|work(?:\/layers)?|work\/layers\/[\w.-]+\.(?:tar|json|tmp)|work\/\w+\.sqfs(?:\.[0-9a-f]{12}\.tmp)?)$/;

interface Converted {
  readonly outcomes: Outcomes;
  /** Calls about files outside the folder of the run, each once, without numbers of processes and processors. */
  readonly outside: ReadonlySet<string>;
  readonly changedOutside: ReadonlySet<string>;
  /** Names below the folder of the run. */
  readonly inside: ReadonlySet<string>;
}

/** Converts each of these images in one traced process. */
async function convert(dir: string, images: ReadonlyMap<string, readonly WrittenLayer[]>): Promise<Converted> {
  for (const [name, layers] of images) await writeLayout(join(dir, "layouts", name), imageOf(layers));
  await mkdir(join(dir, "work"));
  const { stdout, calls } = await traced(`${dir}-trace`, [process.execPath, program, dir, join(dir, "work")]);
  const outside = new Set<string>();
  const changedOutside = new Set<string>();
  const inside = new Set<string>();
  for (const { what, strings, isChange } of calls) {
    const [own, others] = [strings.filter((text) => isBelow(text, dir)), strings.filter((text) => !isBelow(text, dir))];
    for (const path of own) inside.add(path.slice(dir.length + 1));
    if (what.startsWith("execve") || others.length === 0) {
      for (const word of others) outside.add(`execve ${unnumbered(word)}`);
      continue;
    }
    // Node asks about its processors whenever a thread of its own first needs to know: when that is depends on how busy the host is.
    if (!isChange && others.every((path) => path.startsWith("/sys/devices/system/cpu/"))) continue;
    outside.add(unnumbered(`${what} ${others.join(" ")}`));
    if (isChange) for (const path of others) changedOutside.add(unnumbered(path));
  }
  return { outcomes: JSON.parse(stdout) as Outcomes, outside, changedOutside, inside };
}

const isBelow = (text: string, dir: string): boolean => text === dir || text.startsWith(`${dir}/`);
const unnumbered = (text: string): string => text.replaceAll(/\/(proc|share|task|cpu\/cpu)\/?\d+/g, "/$1/N");

/** Go's own tests of its tar reader: archives that others made, odd and broken ones among them. */
async function foreignArchives(): Promise<Map<string, Buffer>> {
  const root = (await run("go", ["env", "GOROOT"]).catch(() => ({ stdout: "/usr/local/go" }))).stdout.trim();
  const dir = join(root, "src", "archive", "tar", "testdata");
  const found = new Map<string, Buffer>();
  const names = await readdir(dir).catch((): string[] => []);
  for (const name of names.toSorted()) {
    const path = join(dir, name);
    if (name.endsWith(".tar")) found.set(name, await readFile(path));
    if (name.endsWith(".base64")) found.set(name, Buffer.from(await readFile(path, "latin1"), "base64"));
    if (name.endsWith(".bz2")) found.set(name, (await run("bzip2", ["-dc", path], { encoding: "buffer", maxBuffer: 2 ** 28 })).stdout);
  }
  return found;
}

it.skipIf(why !== undefined)(
  `touches the same files of the host whatever the names in an image are${why === undefined ? "" : ` (skipped: ${why})`}`,
  { timeout: 300_000 },
  async () => {
    await using place = await scratch();
    const good = tarOf([file("a")]);
    const innocent = await convert(
      join(place.dir, "innocent"),
      new Map([
        ["good", plain(good)],
        ["bad", plain(good.subarray(0, 100))],
      ]),
    );
    expect(innocent.outcomes).toEqual({ good: "made", bad: expect.stringMatching(/^corrupt: a tar ends too early/) as string });
    expect([...innocent.inside]).toEqual(expect.arrayContaining(["work/good.sqfs", "layouts/good/index.json"]));
    for (const path of innocent.changedOutside) expect(["/dev/null", output]).toContain(path);

    const foreign = await foreignArchives();
    if (foreign.size === 0) console.warn("skipped: Go is not installed with its sources, so its archives are not tried");
    const images = new Map([
      ...harmless.map(([, stack], at) => [`harmless${at}`, plain(...stack.map(tarOf))] as const),
      ...refused.map(([, layers], at) => [`refused${at}`, layers()] as const),
      ...[...foreign.values()].map((tar, at) => [`foreign${at}`, plain(tar)] as const),
    ]);
    const hostile = await convert(join(place.dir, "hostile"), images);
    for (const at of harmless.keys()) expect(hostile.outcomes[`harmless${at}`]).toBe("made");
    for (const [at, [, , message]] of refused.entries()) expect(hostile.outcomes[`refused${at}`]).toMatch(message);
    expect([...hostile.outside].filter((call) => !innocent.outside.has(call))).toEqual([]);
    expect([...hostile.inside].filter((name) => !ourNames.test(name))).toEqual([]);

    // Whatever was made is whole.
    const made = Object.entries(hostile.outcomes).flatMap(([name, outcome]) => (outcome === "made" ? [name] : []));
    for (const name of made)
      await run("sqfs2tar", [join(place.dir, "hostile", "work", `${name}.sqfs`)], { encoding: "buffer", maxBuffer: 2 ** 28 });
    expect((await readdir(join(place.dir, "hostile", "work"))).toSorted()).toEqual(
      ["layers", ...made.map((name) => `${name}.sqfs`)].toSorted(),
    );
    const taken = made.filter((name) => name.startsWith("foreign")).length;
    console.info(`${images.size} images converted or refused; of ${foreign.size} archives of Go's tests ${taken} were taken`);
  },
);

it.skipIf(why !== undefined)(`would see a file that is made outside${why === undefined ? "" : ` (skipped: ${why})`}`, async () => {
  await using place = await scratch();
  const [work, archive] = [join(place.dir, "work"), join(place.dir, "image.tar")];
  await mkdir(work);
  await writeFile(archive, tarOf([file("../canary"), file(`${place.dir}/canary2`)]));
  const { calls } = await traced(join(place.dir, "trace"), ["tar", "-xPf", archive], work);
  const changed = (call: FileCall): boolean => call.isChange && call.strings.some((path) => path.includes("canary"));
  expect(calls.filter(changed).flatMap(({ strings }) => strings)).toEqual(expect.arrayContaining(["../canary", `${place.dir}/canary2`]));
});
