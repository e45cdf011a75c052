// What a guest has in memory, to a file and back. QEMU 7.2 moves it to and from sockets alone (docs/devel/migration in its tree), so this copies.
import { createReadStream, createWriteStream } from "node:fs";
import { rename, rm } from "node:fs/promises";
import { connect, createServer, type Socket } from "node:net";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { exists, isAlive, PitwallError, syncPath, systemClock, type ProcessIdentity } from "@pitwall/runtime";
import { z } from "zod";
import { untilListening } from "../host/spawn-detached.ts";
import { files, socketPath } from "./arguments.ts";
import { qmp } from "./qmp.ts";

const fileName = "memory";
const partName = "memory.part";
const lookMs = 20;
const startLimitMs = 10_000;
/** For all of it to be read: a guest that is stopped does not write more, so only the disk's speed counts. */
const limitMs = 600_000;
/** Bytes a second; QEMU's own default is 128 MiB. */
const bandwidth = 2 ** 40;

const hungUp: ReadonlySet<unknown> = new Set(["ERR_STREAM_PREMATURE_CLOSE", "EPIPE", "ECONNRESET"]);

const migration = z.object({ status: z.string().optional(), "error-desc": z.string().optional() });
const running = z.object({ status: z.string() });

export const isSuspended = (dir: string): Promise<boolean> => exists(join(dir, fileName));

export async function forget(dir: string): Promise<void> {
  await Promise.all([fileName, partName].map((name) => rm(join(dir, name), { force: true })));
  await syncPath(dir);
}

/**
 * Stops the guest and keeps its memory, durably. QEMU syncs the disks of a guest that it stops. Rejects when that fails, or the signal aborts
 * before all is kept; the guest is stopped then.
 */
export async function saveMemory(process: ProcessIdentity, dir: string, signal: AbortSignal): Promise<void> {
  signal.throwIfAborted();
  const control = socketPath(process.pid, files.qmp);
  // Of a QEMU that an agent did not come to end. It moves no second time from there, so without the file it goes on first.
  const { status } = running.parse(await qmp(control, "query-status"));
  if (status === "postmigrate" && (await isSuspended(dir))) return;
  if (status === "postmigrate") await qmp(control, "cont");
  await forget(dir);
  await rm(join(dir, files.memory), { force: true });
  await qmp(control, "stop", undefined, limitMs); // which syncs its disks
  const part = join(dir, partName);
  const { end, written } = await receive(socketPath(process.pid, files.memory), part);
  try {
    await qmp(control, "migrate-set-parameters", { "max-bandwidth": bandwidth });
    await qmp(control, "migrate", { uri: `unix:${files.memory}` });
    await Promise.all([written, untilMoved(process, control, signal)]);
    await syncPath(part);
    await rename(part, join(dir, fileName));
    await syncPath(dir);
  } catch (error) {
    await qmp(control, "migrate_cancel").catch(() => undefined); // or it would stop the guest when it comes to its end
    await forget(dir);
    throw error;
  } finally {
    end();
    await rm(join(dir, files.memory), { force: true });
  }
}

/** Gives the memory to a QEMU that waits for it, and removes it; the CPUs are still stopped. Rejects with `unavailable` when it is no good. */
export async function giveMemory(process: ProcessIdentity, dir: string, ended: Promise<unknown>): Promise<void> {
  const control = socketPath(process.pid, files.qmp);
  await untilListening(process, control, startLimitMs);
  const endedEarly = ended.then((): never => {
    throw new PitwallError("unavailable", "QEMU does not take the memory of this VM", { reason: "MEMORY_REFUSED" });
  });
  const given = (async () => {
    await qmp(control, "migrate-incoming", { uri: `unix:${files.memory}` });
    await pipeline(createReadStream(join(dir, fileName)), connect(socketPath(process.pid, files.memory))).catch(unlessHungUp);
    await untilStopped(process);
  })();
  await Promise.race([given, endedEarly]);
  await forget(dir);
}

/** QEMU hangs up once it has read all, which may be before this side knows that all is written. Whether it was all, QEMU tells by going on. */
function unlessHungUp(error: unknown): void {
  if (!(error instanceof Error && "code" in error && hungUp.has(error.code))) throw error;
}

/** Listens for one stream, which goes to a file. */
async function receive(listenAt: string, path: string): Promise<{ end: () => void; written: Promise<void> }> {
  const server = createServer();
  let taken: Socket | undefined;
  const written = new Promise<void>((resolve, reject) => {
    server.once("connection", (socket) => {
      taken = socket;
      pipeline(socket, createWriteStream(path, { mode: 0o600 })).then(resolve, reject);
    });
  });
  written.catch(() => undefined); // told by who awaits it
  await new Promise<void>((resolve, reject) => server.once("error", reject).listen(listenAt, resolve));
  const end = (): void => {
    server.close();
    taken?.destroy();
  };
  return { end, written };
}

async function untilMoved(process: ProcessIdentity, control: string, signal: AbortSignal): Promise<void> {
  await poll(process, async () => {
    signal.throwIfAborted();
    const { status, "error-desc": why } = migration.parse(await qmp(control, "query-migrate"));
    if (status === "failed" || status === "cancelled") {
      throw new PitwallError("unavailable", `QEMU could not write the guest's memory: ${why ?? "it does not say why"}`, {
        reason: "MEMORY_NOT_KEPT",
      });
    }
    return status === "completed";
  });
}

/** Until it has read its memory and waits to be told to go on. */
async function untilStopped(process: ProcessIdentity): Promise<void> {
  const control = socketPath(process.pid, files.qmp);
  await poll(process, async () => running.parse(await qmp(control, "query-status")).status !== "inmigrate");
}

async function poll(process: ProcessIdentity, isDone: () => Promise<boolean>): Promise<void> {
  const deadlineMs = systemClock.monotonicMs() + limitMs;
  while (!(await isDone())) {
    if (!isAlive(process)) throw new PitwallError("unavailable", "QEMU ended", { reason: "VMM_GONE" });
    if (systemClock.monotonicMs() > deadlineMs) throw new PitwallError("deadline", "QEMU moves no memory", { reason: "VMM_SILENT" });
    await systemClock.sleep(lookMs);
  }
}
