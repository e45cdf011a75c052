// Hosts that lack what the full confinement takes: images become the same bytes, and what is left of the confinement holds.
import { execFile, execFileSync } from "node:child_process";
import { chown, mkdir, symlink } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { expect, it } from "vitest";
import { openConfinement } from "../src/index.ts";
import type { Looked } from "./support/confined.ts";
import { scratch } from "./support/scratch.ts";

const run = promisify(execFile);
const program = fileURLToPath(new URL("support/confined.ts", import.meta.url));
const isRoot = process.getuid?.() === 0;
/** Of no account. */
const someone = 64_321;
const asSomeone = ["setpriv", `--reuid=${someone}`, `--regid=${someone}`, "--clear-groups"];
const own = isRoot ? asSomeone : [];
const tools = ["sh", "id", "tail", "cut", "grep", "touch", "env", "setpriv", "unshare", "tar2sqfs"];
const where = new Map(tools.map((tool) => [tool, execFileSync("which", [tool], { encoding: "utf8" }).trim()]));

const works = ([name = "", ...args]: readonly string[]): boolean => {
  try {
    execFileSync(name, args, { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
};
const noRoot = isRoot ? "" : " (skipped: it needs root)";
const noUser = !works([...own, process.execPath, "-e", `require("node:fs").accessSync(${JSON.stringify(program)})`])
  ? " (skipped: another user cannot read the sources)"
  : works([...own, "unshare", "--user", "--map-root-user", "--net", "true"])
    ? ""
    : " (skipped: this host allows users no namespaces)";

/** What the program finds as whoever `as` makes it, on a host that lacks some programs. */
async function look(dir: string, as: readonly string[], lacking: readonly string[]): Promise<Looked> {
  const [bin, work] = [join(dir, "bin"), join(dir, "work")];
  await mkdir(bin, { recursive: true });
  await mkdir(work);
  if (isRoot) {
    const to = as.length > 0 ? someone : 0;
    for (const folder of [dir, work]) await chown(folder, to, to);
  }
  for (const [tool, path] of where) if (!lacking.includes(tool)) await symlink(path, join(bin, tool));
  const [first, ...rest] = [...as, "env", `PATH=${bin}`, "SECRET=canary", process.execPath, program, work];
  return JSON.parse((await run(first, rest)).stdout) as Looked;
}

const powerless = "CapEff: 0000000000000000 CapBnd: 0000000000000000 NoNewPrivs: 1";
const networks = /^networks (?!lo$)/;

/** The image that the strictest confinement of this host makes, and which that is. */
const strictest = await (async (): Promise<Looked> => {
  await using work = await scratch();
  return await look(work.dir, [], []);
})();

it("does not depend on where the agent's PATH leads in the new root", async () => {
  expect(strictest.kind).toBe((await openConfinement()).kind);
});

it.skipIf(noRoot !== "")(`is another user without rights where there is no unshare${noRoot}`, async () => {
  await using work = await scratch();
  const { kind, image, said } = await look(work.dir, [], ["unshare"]);
  expect(kind).toBe("stranger");
  expect(image).toBe(strictest.image);
  expect(said.filter((line) => !networks.test(line))).toEqual(["user 65533, groups 65533", "sees the agent", powerless, "wrote its file"]);
});

it.skipIf(noUser !== "")(`is the agent's user without its rights, network and processes where the agent is not root${noUser}`, async () => {
  await using work = await scratch();
  const { kind, image, said } = await look(work.dir, own, []);
  expect(kind).toBe("unmapped");
  expect(image).toBe(strictest.image);
  expect(said).toEqual([expect.stringMatching(/^user 0, groups 0/), "networks lo", powerless, "wrote its file"]);
});

it("is the agent where nothing else can be had", async () => {
  await using work = await scratch();
  const { kind, image, said } = await look(work.dir, [], ["unshare", "setpriv"]);
  expect(kind).toBe("none");
  expect(image).toBe(strictest.image);
  expect(said).toEqual(
    expect.arrayContaining([`user ${process.getuid?.()}, groups ${process.getgroups?.().join(" ")}`, "knows the secret"]),
  );
});

it("says so when there is no tar2sqfs", async () => {
  await using work = await scratch();
  await expect(look(work.dir, [], ["tar2sqfs", "unshare", "setpriv"])).rejects.toThrow(
    "tar2sqfs is missing: install the Debian package squashfs-tools-ng",
  );
});
