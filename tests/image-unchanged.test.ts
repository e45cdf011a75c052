// The image in the VM is the image of its author: every entry is compared with what an independent tool makes of the layers.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { run } from "./support/run.ts";
import { startTestStack, type TestStack } from "./support/stack.ts";

/** What Pitwall mounts, and what is bound over the image's own file (docs/architecture.md, "Initramfs"). */
const ours = ["/dev", "/proc", "/sys", "/etc/hostname", "/etc/hosts", "/etc/resolv.conf"];
const others = ours.map((path) => `-path .${path} -prune -o`).join(" ");
/** Each prints one line per entry. */
const listings = [
  `find . -xdev ${others} -printf '%p\\t%y\\t%#m\\t%U:%G\\t%l\\n'`,
  `find . -xdev ${others} -type f -printf '%p\\t%s\\t%Ts\\n'`,
  `find . -xdev ${others} -type f -exec sha256sum {} +`,
];

let pitwall: TestStack;
let dir: string;

beforeAll(async () => {
  pitwall = await startTestStack();
  dir = await mkdtemp(join(tmpdir(), "pitwall-unpacked-"));
});

afterAll(async () => {
  await pitwall?.[Symbol.asyncDispose]();
  await rm(dir, { recursive: true, force: true });
});

const lines = (text: string): string[] =>
  text
    .split("\n")
    .filter((line) => line !== "" && !line.startsWith(".\t"))
    .toSorted();

it("every file of the image is in the VM with its content, owner, mode and time, and nothing else is", async () => {
  const { vms } = pitwall.stack.client();
  await vms.create({ name: "same", spec: { image: pitwall.image, args: ["sleep", "infinity"] } });
  await vms.wait("same");
  const layout = pitwall.image.replace(/^oci:/, "");
  expect(await run(["umoci", "unpack", "--image", layout, join(dir, "bundle")])).toMatchObject({ code: 0 });
  const cwd = join(dir, "bundle", "rootfs");
  for (const command of listings) {
    const [inside, outside] = await Promise.all([
      run([...pitwall.ssh.commandFor("same"), `cd / && ${command}`]),
      run(["sh", "-c", command], { cwd }),
    ]);
    expect(inside.code).toBe(0);
    expect(lines(outside.stdout).length).toBeGreaterThan(3000);
    expect(lines(inside.stdout)).toEqual(lines(outside.stdout));
  }
});
