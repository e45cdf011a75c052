// Cgroups of VMs, as far as a folder can play one.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, mkdtempDisposable, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemClock, writeFileAtomic } from "@pitwall/runtime";
import { expect, it } from "vitest";
import { membersOf, removeCgroup, untilEmpty } from "../src/firecracker/cgroup.ts";

const name = "vm-1";

/** A folder that is read as a cgroup is. */
async function cgroup(): Promise<{ parent: string; dir: string } & AsyncDisposable> {
  const made = await mkdtempDisposable(join(tmpdir(), "pitwall-cgroup-"));
  const dir = join(made.path, name);
  await mkdir(dir);
  return { parent: made.path, dir, [Symbol.asyncDispose]: () => made[Symbol.asyncDispose]() };
}

it("is empty when the kernel says so or it is gone, not when it cannot be read", async () => {
  await using at = await cgroup();
  await symlink("cgroup.events", join(at.dir, "cgroup.events")); // ELOOP
  let isEmpty = false;
  const empty = untilEmpty(at.parent, name).then(() => (isEmpty = true));
  await systemClock.sleep(1_200); // it has looked twice
  expect(isEmpty).toBe(false);
  await writeFileAtomic(join(at.dir, "cgroup.events"), "populated 1\nfrozen 0\n");
  await systemClock.sleep(1_200);
  expect(isEmpty).toBe(false);
  await writeFileAtomic(join(at.dir, "cgroup.events"), "populated 0\nfrozen 0\n");
  await empty;
  await untilEmpty(at.parent, "of-nobody");
});

it("has no members when it is gone, and unknown ones when it cannot be read", async () => {
  await using at = await cgroup();
  expect(await membersOf(at.parent, "of-nobody")).toEqual([]);
  await mkdir(join(at.dir, "cgroup.procs"));
  await expect(membersOf(at.parent, name)).rejects.toThrow("EISDIR");
});

it("is ended one process at a time where the kernel does not end all at once", async () => {
  await using at = await cgroup();
  const child = spawn("sleep", ["600"], { stdio: "ignore" });
  const ended = once(child, "exit");
  await writeFile(join(at.dir, "cgroup.procs"), `${child.pid}\n`);
  const removed = removeCgroup(at.parent, name);
  expect(await ended).toEqual([null, "SIGKILL"]);
  await rm(join(at.dir, "cgroup.procs")); // as the kernel's files go with their folder
  await removed;
});
