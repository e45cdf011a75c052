// User ids for VMMs, one per running VM, from a range that nothing else on the host uses. A lease is a file `UID` in a folder of the
// agent's: the first thing that is made for a VM and the last that goes, so that after a crash it leads to everything else.
import { mkdir, open, readdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { PitwallError, syncPath, writeFileAtomic } from "@pitwall/runtime";
import { z } from "zod";

/** `count` ids from `first` on. */
export interface UidRange {
  readonly first: number;
  readonly count: number;
}

/** Whose id it is, and where that VM's things are. The group has the same number. */
export interface UidLease {
  readonly uid: number;
  readonly vmId: string;
  readonly epoch: bigint;
  /** The VM's folder. */
  readonly dir: string;
}

const stored = z.object({ vmId: z.string(), epoch: z.string().regex(/^\d+$/), dir: z.string().startsWith("/") });

export interface Uids {
  /** Durable when it resolves. Throws `exhausted` when the range is used up. */
  lease(vmId: string, epoch: bigint, dir: string): Promise<UidLease>;
  /** Only once nothing of this id is left on the host. */
  release(lease: UidLease): Promise<void>;
  of(vmId: string): UidLease | undefined;
  all(): readonly UidLease[];
}

/** Leases that an earlier agent left are there again, also those beyond a range that was changed. */
export async function openUids(dir: string, { first, count }: UidRange): Promise<Uids> {
  await mkdir(dir, { recursive: true, mode: 0o700 });
  const leases = new Map<number, UidLease>();
  for (const name of await readdir(dir)) {
    const uid = Number(name);
    if (!/^\d+$/.test(name)) await rm(join(dir, name), { force: true }); // half of a lease: nothing was made for it yet
    else leases.set(uid, await readLease(join(dir, name), uid));
  }
  let next = 0;

  function free(): number {
    for (let tried = 0; tried < count; tried++) {
      const uid = first + next;
      next = (next + 1) % count; // not the one that was in use a moment ago
      if (!leases.has(uid)) return uid;
    }
    throw new PitwallError("exhausted", `all ${count} user ids for VMs are in use: give PITWALL_JAIL_UIDS more`, {
      reason: "UIDS_USED_UP",
    });
  }

  return {
    async lease(vmId, epoch, vmDir) {
      const lease = { uid: free(), vmId, epoch, dir: vmDir };
      leases.set(lease.uid, lease); // before the first wait: two VMs must not find the same one free
      try {
        await writeFileAtomic(join(dir, String(lease.uid)), JSON.stringify({ vmId, epoch: String(epoch), dir: vmDir }));
      } catch (error) {
        await rm(join(dir, String(lease.uid)), { force: true });
        leases.delete(lease.uid);
        throw error;
      }
      return lease;
    },
    async release({ uid }) {
      await rm(join(dir, String(uid)), { force: true });
      await syncPath(dir);
      leases.delete(uid);
    },
    of: (vmId) => [...leases.values()].find((lease) => lease.vmId === vmId),
    all: () => [...leases.values()],
  };
}

async function readLease(path: string, uid: number): Promise<UidLease> {
  try {
    const { vmId, epoch, dir } = stored.parse(JSON.parse(await readFile(path, "utf8")));
    return { uid, vmId, epoch: BigInt(epoch), dir };
  } catch (cause) {
    throw new PitwallError("corrupt", `the lease of user id ${uid} cannot be read`, { reason: "LEASE_CORRUPT", cause });
  }
}

/**
 * Throws `unsupported` when somebody else has ids of the range: an account or a group of the host, or what is delegated to one
 * (subuid(5)). Given the texts of those files.
 */
export function checkRange({ first, count }: UidRange, accounts: readonly string[], delegated: readonly string[]): void {
  const last = first + count - 1;
  const refuse = (name: string | undefined): never => {
    const message = `ids ${first} to ${last} are not free on this host (${name}): choose others in PITWALL_JAIL_UIDS`;
    throw new PitwallError("unsupported", message, { reason: "UIDS_TAKEN" });
  };
  const linesOf = (texts: readonly string[]): string[] => texts.flatMap((text) => text.split("\n")).filter((line) => !line.startsWith("#"));
  for (const line of linesOf(accounts)) {
    const [name, , id] = line.split(":");
    if (id !== undefined && Number(id) >= first && Number(id) <= last) refuse(name);
  }
  for (const line of linesOf(delegated)) {
    const [name, start, length] = line.split(":");
    if (length !== undefined && Number(start) <= last && Number(start) + Number(length) > first) refuse(name);
  }
}

/** Of this host. */
export async function checkHostRange(range: UidRange): Promise<void> {
  const textOf = async (path: string): Promise<string> => {
    const file = await open(path).catch(() => undefined);
    if (!file) return "";
    await using opened = file;
    return await opened.readFile("utf8");
  };
  checkRange(
    range,
    await Promise.all(["/etc/passwd", "/etc/group"].map(textOf)),
    await Promise.all(["/etc/subuid", "/etc/subgid"].map(textOf)),
  );
}
