// Real software as VMs and as containers: its process, looked at from beside it, differs in nothing but what the contract names.
// PITWALL_PARITY=all adds the images of the large root file system (PostgreSQL, Node).
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { surroundings } from "@pitwall/oci";
import { Phase } from "@pitwall/sdk";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { inspectContainer } from "./support/parity/container.ts";
import { debianRoots, debianTar } from "./support/parity/debian.ts";
import { Layouts, type StoredLayer } from "./support/parity/layouts.ts";
import { differences, facts } from "./support/parity/report.ts";
import { compileProbe, etcOf, probeLayer, unpack } from "./support/parity/suite.ts";
import { inspectVm } from "./support/parity/vm.ts";
import { run } from "./support/run.ts";
import { deleteVm, startTestStack, type TestStack } from "./support/stack.ts";

const isAll = process.env["PITWALL_PARITY"] === "all";
const [small] = debianRoots;
let pitwall: TestStack;
let dir: string;
let layouts: Layouts;
let probe: StoredLayer;

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "pitwall-debian-"));
  pitwall = await startTestStack();
  layouts = await Layouts.create(join(dir, "layout"));
  probe = await probeLayer(layouts, await compileProbe(pitwall.provisioned.cacheDir, dir));
});

afterAll(async () => {
  await pitwall?.[Symbol.asyncDispose]();
  await rm(dir, { recursive: true, force: true });
});

for (const root of debianRoots) {
  const isSkipped = root.name === "large" && !isAll;
  if (isSkipped) console.warn(`skipped: ${root.images.map(({ name }) => name).join(", ")}; PITWALL_PARITY=all runs them`);
  describe.skipIf(isSkipped)(`${root.packages.join(", ")}`, () => {
    let layers: readonly StoredLayer[];
    let rootfs: string;

    beforeAll(async () => {
      layers = [await layouts.layerOf(await debianTar(pitwall.provisioned.cacheDir, root)), probe];
      rootfs = await unpack(layouts, root.name, layers, join(dir, root.name));
    }, 300_000);

    it.each(root.images)("$name", async (image) => {
      const { name, config } = image;
      const reference = await layouts.image(name, layers, config);
      const options = { layout: layouts.dir, tag: name, image: config, rootfs, dir: join(dir, "containers", name) };
      const container = await inspectContainer({ ...options, hostname: name, etc: etcOf(name) }, image.isUp);
      const vm = await inspectVm(pitwall.stack.client(), name, reference, pitwall.ssh.commandFor(name), image.isUp);
      await deleteVm(pitwall.stack, name);
      const found = differences(facts(container.report!), facts(vm)).filter(
        ({ what }) => !surroundings.some(({ covers }) => covers.test(what)),
      );
      expect(found).toEqual([]);
    });
  });
}

it("systemd boots as itself, answers systemctl over SSH, and halts when the VM stops", async () => {
  const name = "systemd";
  const layer = await layouts.layerOf(await debianTar(pitwall.provisioned.cacheDir, small!));
  const image = await layouts.image(name, [layer], { Cmd: ["/sbin/init"] });
  const { vms } = pitwall.stack.client();
  await vms.create({ name, spec: { image } });
  expect(await vms.wait(name)).toMatchObject({ phase: Phase.PHASE_RUNNING, serviceExit: undefined });
  const ssh = async (command: string): Promise<string> => (await run([...pitwall.ssh.commandFor(name), command])).stdout.trim();
  await expect.poll(() => ssh("systemctl is-system-running"), { timeout: 90_000, interval: 1_000 }).toMatch(/^(running|degraded)$/);
  expect(await ssh("systemctl is-active nginx redis-server")).toBe("active\nactive");
  expect(await ssh("systemctl show --property=Virtualization")).toBe("Virtualization=container-other");
  await vms.stop(name);
  expect(await vms.wait(name, { phases: [Phase.PHASE_STOPPED] })).toMatchObject({ phase: Phase.PHASE_STOPPED, reason: "" });
  await deleteVm(pitwall.stack, name);
});
