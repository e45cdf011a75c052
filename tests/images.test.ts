// The images that nodes hold, from `pull` to `gc`, with the command that people use.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { writeLayout } from "./support/layout.ts";
import { run, type Ended } from "./support/run.ts";
import { deleteVm, startTestStack, type TestStack } from "./support/stack.ts";

const bin = join(import.meta.dirname, "..", "node_modules", ".bin", "pitwall");
let pitwall: TestStack;
let dir: string;
let env: Record<string, string>;

/** What placement counts as held, of all nodes. */
const counted = async (): Promise<unknown[]> => (await pitwall.query("select digests from node_images")).map(({ digests }) => digests);

const cli = (...args: string[]): Promise<Ended> => run([bin, ...args], { env });

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "pitwall-images-"));
  pitwall = await startTestStack({ env: { node: { PITWALL_DRIVER: "sim", PITWALL_CACHE_DIR: join(dir, "cache") } } });
  env = { XDG_CONFIG_HOME: dir, PITWALL_ENDPOINT: pitwall.stack.endpoint, PITWALL_TOKEN: await pitwall.stack.token(), NO_COLOR: "1" };
});

afterAll(async () => {
  await pitwall?.[Symbol.asyncDispose]();
  await rm(dir, { recursive: true, force: true });
});

it("pulls, lists and frees, and keeps what a VM uses", async () => {
  const image = await writeLayout(join(dir, "layout"));
  const pulled = await cli("images", "pull", image);
  expect(pulled.stderr).toMatch(/pulling on /);
  expect(pulled.stdout).toMatch(/^NODE +STATE +DIGEST +MESSAGE\n\S+ +done +[0-9a-f]{12} +-\n$/);
  const { stdout: digest } = await cli("image", "ls", "-o", "name");
  expect(digest).toMatch(/^sha256:[0-9a-f]{64}\n$/);
  expect(JSON.parse((await cli("image", "ls", "-o", "json")).stdout)).toMatchObject([{ digest: digest.trim(), references: [image] }]);

  await expect.poll(counted, { timeout: 30_000 }).toEqual([[digest.trim()]]); // with no VM there

  const client = pitwall.stack.client();
  const vm = await client.vms.create({ spec: { image } });
  expect((await client.listImages()).images).toMatchObject([{ vmCount: 1 }]);
  const refused = await cli("images", "rm", digest.slice("sha256:".length, 20));
  expect(refused).toMatchObject({ code: 1, stdout: "" });
  expect(refused.stderr).toMatch(/^error: a VM uses the image sha256:[0-9a-f]{64}: remove the VM first/);
  expect((await client.collectGarbage()).nodes).toMatchObject([{ digests: [], baseBytes: 0n, layerBytes: 0n }]);

  await deleteVm(pitwall.stack, vm.id);
  const [planned] = (await client.collectGarbage({ dryRun: true })).nodes;
  expect(planned?.baseBytes).toBeGreaterThan(0n);
  expect(await client.listImages()).toMatchObject({ images: [{ vmCount: 0 }], skippedNodes: [] });
  const freed = await cli("images", "gc", "-o", "json");
  expect(JSON.parse(freed.stdout)).toMatchObject([{ digests: [digest.trim()], baseBytes: String(planned?.baseBytes) }]);
  expect((await client.listImages()).images).toEqual([]);
  await expect.poll(counted, { timeout: 30_000 }).toEqual([[]]);

  await cli("images", "pull", image, "--node", planned?.node ?? "");
  expect(await cli("images", "rm", image)).toMatchObject({ code: 0 });
  expect((await cli("images", "rm", image)).stderr).toMatch(/^error: no node holds the image/);
});

it("says what is wrong with a push, in a line", async () => {
  const image = await writeLayout(join(dir, "pushed"));
  const away = await cli("images", "push", image.replace("oci:", ""), "127.0.0.1:9/team/app:1", "--insecure");
  expect(away).toMatchObject({ code: 1, stdout: "" });
  expect(away.stderr).toMatch(/^error: the registry 127\.0\.0\.1:9 cannot be reached: [^\n]*\n$/);
  const missing = await cli("images", "push", join(dir, "nowhere"), "127.0.0.1:9/team/app:1");
  expect(missing.stderr).toMatch(/^error: [^\n]*\/nowhere[^\n]*there is no such path\n$/);
});

it("says on which node a pull failed, and why", async () => {
  // The digests of the image above, of which nothing is kept any more.
  const damaged = await writeLayout(join(dir, "damaged"), { damage: (layer) => Buffer.from(layer).fill(0, 520, 524) });
  const { code, stdout, stderr } = await cli("images", "pull", damaged);
  expect(code).toBe(1);
  expect(stdout).toMatch(/ failed +[0-9a-f]{12} +.*digest/);
  expect(stderr).toMatch(/error: the image is not ready on \S+\n$/);
  expect((await cli("images", "pull", `oci:${join(dir, "nowhere")}`)).code).toBe(1);
});
