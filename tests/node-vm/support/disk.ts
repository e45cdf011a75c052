// The data disk of a node VM, as its user sees it: a file that outlasts the machine, behind a thread that is the disk.
import { once } from "node:events";
import { open } from "node:fs/promises";
import { join } from "node:path";
import { Worker } from "node:worker_threads";
import { command } from "@pitwall/quickstart";
import { exists } from "@pitwall/runtime";
import type { DiskAnswer, DiskOrder, DiskWorkerData } from "./disk-worker.ts";

export interface Disk extends AsyncDisposable {
  /**
   * Forgets what the machine has written and not flushed; how many blocks of 4 KiB that were. With `keep`, that share of them, chosen by `seed`,
   * had reached the medium by chance. Only while QEMU is gone.
   */
  cutPower(keep: number, seed: string): Promise<number>;
}

/** Listens on `socket`. A file that is not there is made, sparse and with an empty ext4. */
export async function openDisk({ file, socket, sizeBytes }: DiskWorkerData & { readonly sizeBytes: number }): Promise<Disk> {
  if (!(await exists(file))) await makeFile(file, sizeBytes);
  const workerData: DiskWorkerData = { file, socket };
  const worker = new Worker(join(import.meta.dirname, "disk-worker.ts"), { workerData, execArgv: [] });
  const failed = new Promise<never>((_, reject) => {
    worker.once("error", reject).once("exit", () => reject(new Error("the disk's thread has ended")));
  });
  failed.catch(() => undefined); // raced below
  const answer = async (): Promise<DiskAnswer> => {
    const [told] = (await Promise.race([once(worker, "message"), failed])) as [DiskAnswer]; // disk-worker.ts sends nothing else
    return told;
  };
  const ask = (order: DiskOrder): Promise<DiskAnswer> => {
    worker.ref(); // whoever asks waits for the answer
    const answered = answer().finally(() => worker.unref());
    worker.postMessage(order);
    return answered;
  };
  await answer();
  worker.unref();
  return {
    async cutPower(keep, seed) {
      const told = await ask({ order: "cut", keep, seed });
      if (told.answer !== "cut") throw new Error(`the disk answered ${told.answer}`);
      return told.lostBlocks;
    },
    async [Symbol.asyncDispose]() {
      await ask({ order: "close" });
      await worker.terminate();
    },
  };
}

async function makeFile(file: string, sizeBytes: number): Promise<void> {
  const made = await open(file, "wx", 0o600);
  await made.truncate(sizeBytes);
  await made.close();
  // Nothing is zeroed that is zero: neither now, nor later by the kernel behind the tests' backs.
  await command("mke2fs", ["-q", "-F", "-t", "ext4", "-L", "data", "-E", "assume_storage_prezeroed=1,lazy_itable_init=0", file]);
}
