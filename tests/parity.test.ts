// Images as VMs and as containers: whatever differs is in the contract, docs/parity.md.
// PITWALL_PARITY=all runs them all; without it some are skipped, aloud.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { surroundings } from "@pitwall/oci";
import { Health, Parity, Phase } from "@pitwall/sdk";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { runContainer, type Outcome } from "./support/parity/container.ts";
import { chosen, skipped, type ParityImage } from "./support/parity/images.ts";
import { differences, facts, findReport, type Difference } from "./support/parity/report.ts";
import { etcOf, makeImages, type Made } from "./support/parity/suite.ts";
import { runVm } from "./support/parity/vm.ts";
import { run, type Ended } from "./support/run.ts";
import { deleteVm, startTestStack, type TestStack } from "./support/stack.ts";

let pitwall: TestStack;
let dir: string;
let made: Made;
/** What was seen to differ, by all images. */
const seen = new Set<string>();

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "pitwall-parity-"));
  pitwall = await startTestStack();
  made = await makeImages(pitwall.provisioned.cacheDir, dir);
});

afterAll(async () => {
  await pitwall?.[Symbol.asyncDispose]();
  await rm(dir, { recursive: true, force: true });
});

async function asContainer({ name, tree, config, stop, isReadOnly = false }: ParityImage): Promise<Outcome> {
  const options = {
    isReadOnly,
    layout: made.layouts.dir,
    tag: name,
    image: config,
    rootfs: made.trees[tree],
    dir: join(dir, "containers", name),
  };
  return runContainer({ ...options, hostname: name, etc: etcOf(name) }, stop === true);
}

async function asVm(image: ParityImage): Promise<Outcome> {
  try {
    return await runVm(pitwall.stack.client(), image, made.references.get(image.name)!);
  } finally {
    await deleteVm(pitwall.stack, image.name);
  }
}

/** All that differs and is no row of the contract. */
function unexplained(found: readonly Difference[]): Difference[] {
  for (const { what } of found) seen.add(what);
  return found.filter(({ what }) => !surroundings.some(({ covers }) => covers.test(what)));
}

if (skipped.length > 0) console.warn(`skipped: ${skipped.join(", ")}; PITWALL_PARITY=all runs them`);

/** Three VMs at once: with two processors a fourth gains nothing. */
describe("as in a container", { concurrent: true }, () => {
  it.each(chosen.filter(({ refused }) => !refused))("$name", async (image) => {
    const [container, vm] = [await asContainer(image), await asVm(image)];
    expect(container.report, container.output).toBeDefined();
    expect(vm.report, vm.output).toBeDefined();
    const found = differences(facts(container.report!), facts(vm.report!));
    if (!image.stop && container.exit !== vm.exit)
      found.push({ what: `exit ${image.name}`, container: `${container.exit}`, vm: `${vm.exit}` });
    expect(unexplained(found)).toEqual([]);
    expect(vm.signal).toBe(container.signal);
    if (image.stop) expect(vm.signal).toBeGreaterThan(0);
  });

  it.each(chosen.filter(({ refused }) => refused))("$name: is not run", async (image) => {
    const [container, vm] = [await asContainer(image), await asVm(image)];
    expect(container).toMatchObject({ report: undefined, output: expect.stringMatching(/./) as string });
    expect(container.exit).not.toBe(0);
    expect(vm).toMatchObject({ report: undefined, output: expect.stringMatching(/^powerunit: /) as string });
    expect([126, 127]).toContain(vm.exit);
    seen.add("refused");
  });
});

it("runs an image with nothing to run, which a container runtime refuses", async () => {
  const name = "nothing";
  const reference = await made.layouts.image(name, [made.layers.scratch], {});
  const container = await asContainer({ name, tree: "scratch", config: {} });
  expect(container.exit).not.toBe(0);
  const client = pitwall.stack.client();
  await client.vms.create({ name, spec: { image: reference } });
  const running = await client.vms.wait(name);
  expect(running).toMatchObject({ serviceExit: undefined, reason: "" });
  await deleteVm(pitwall.stack, name);
  seen.add("nothing to run");
});

it("says that an image is ill whose health check fails; a container runtime does not look, and the process runs on in both", async () => {
  const name = "ill";
  const Healthcheck = { Test: ["CMD-SHELL", "exit 1"], Interval: 100e6, Timeout: 5e9, Retries: 2 };
  const config = { Entrypoint: ["/probe"], Env: ["PARITY_THEN=wait"], Healthcheck };
  const image = await made.layouts.image(name, [made.layers.small], config);
  const container = await asContainer({ name, tree: "small", config, stop: true });
  expect(container.signal).toBe(15);
  const client = pitwall.stack.client();
  await client.vms.create({ name, spec: { image } });
  const ill = await client.vms.waitUntil(name, ({ health }) => health === Health.HEALTH_UNHEALTHY);
  expect(ill).toMatchObject({ phase: Phase.PHASE_RUNNING, serviceExit: undefined });
  let output = "";
  for await (const { data } of client.readLogs(name, { follow: true })) {
    output += Buffer.from(data).toString();
    if (findReport(output)) break; // from here on it handles signals
  }
  await client.vms.stop(name);
  const stopped = await client.vms.wait(name, { phases: [Phase.PHASE_STOPPED] });
  expect(stopped.serviceExit).toMatchObject({ code: 0, signal: 0 }); // the probe names its signal and ends well
  await deleteVm(pitwall.stack, name);
});

describe("an image of which something would be ignored", () => {
  const name = "wishes";
  let image: string;
  const cli = async (...args: string[]): Promise<Ended> =>
    run([join(import.meta.dirname, "..", "node_modules", ".bin", "pitwall"), ...args], {
      env: { XDG_CONFIG_HOME: dir, PITWALL_ENDPOINT: pitwall.stack.endpoint, PITWALL_TOKEN: await pitwall.stack.token(), NO_COLOR: "1" },
    });

  beforeAll(async () => {
    image = await made.layouts.image(name, [made.layers.scratch], { Entrypoint: ["/probe"], Volumes: { "/v": {} }, Tty: true, Memory: 5 });
  });

  it("is reported field by field", async () => {
    const { digest, fields } = await pitwall.stack.client().checkImage(image);
    expect(digest).toMatch(/^sha256:[0-9a-f]{64}$/);
    const parityOf = Object.fromEntries(fields.map(({ field, parity }) => [field, parity]));
    expect(parityOf).toMatchObject({
      architecture: Parity.PARITY_HONOURED,
      "config.Entrypoint": Parity.PARITY_HONOURED,
      "config.Volumes": Parity.PARITY_ADAPTED,
      "config.Memory": Parity.PARITY_IGNORED,
      "config.Tty": Parity.PARITY_IGNORED,
    });
    expect(fields.every(({ why }) => why.length > 0)).toBe(true);
  });

  it("is shown by `pitwall images check`, whose --strict ends with 1", async () => {
    const shown = await cli("images", "check", image);
    expect(shown).toMatchObject({ code: 0, stdout: expect.stringMatching(/^FIELD +VERDICT +VALUE +WHY\n/) as string });
    expect(shown.stdout).toMatch(/^config\.Tty +ignored +true +\S/m);
    expect(await cli("images", "check", image, "--strict", "-o", "name")).toMatchObject({ code: 1, stdout: "config.Tty\nconfig.Memory\n" });
  });

  it("becomes no VM when `strict` is asked for", async () => {
    await expect(pitwall.stack.client().vms.create({ name, strict: true, spec: { image } })).rejects.toMatchObject({
      code: "FAILED_PRECONDITION",
      reason: "IMAGE_FIELDS_IGNORED",
      message: expect.stringMatching(/config\.Tty \(.+\); config\.Memory \(.+\)/) as string,
    });
    expect(await cli("run", image, "--name", name, "--strict")).toMatchObject({
      code: 1,
      stderr: expect.stringContaining("config.Memory") as string,
    });
    expect(await pitwall.query("select name from vm where name = $1", [name])).toEqual([]);
  });
});

it("finds every difference that the contract names", () => {
  const found = [...seen];
  expect(surroundings.filter(({ covers }) => !found.some((what) => covers.test(what))).map(({ what }) => what)).toEqual([]);
});
