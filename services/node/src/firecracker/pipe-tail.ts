// The last bytes that came through a named pipe. It is read as it comes, without waiting for it, so that its writer never waits and no
// file grows; what comes faster than it may is left in the pipe, whose writer drops what does not fit.
import { closeSync, constants, fstatSync, openSync, readSync } from "node:fs";
import { Socket } from "node:net";
import { PitwallError } from "@pitwall/runtime";

const chunkBytes = 1 << 16;

export interface PipeTail extends Disposable {
  /** What is there by now, at most the `keep` bytes that it was opened with. */
  text(): string;
}

/** `keep` bytes are kept, and at most `perSecond` are taken from the pipe. Throws `state` when there is no pipe. */
export function openPipeTail(path: string, keep: number, perSecond: number): PipeTail {
  // Also for writing: a pipe without a writer has an end, and one without a reader kills its writer.
  const fd = openSync(path, constants.O_RDWR | constants.O_NONBLOCK | constants.O_NOFOLLOW);
  if (!fstatSync(fd).isFIFO()) {
    closeSync(fd);
    throw new PitwallError("state", "a VMM's pipe has become something else", { reason: "JAIL_UNSAFE" });
  }
  const socket = new Socket({ fd, readable: true, writable: false });
  socket.unref();
  let kept = Buffer.alloc(0);
  let taken = 0;
  let waiting: NodeJS.Timeout | undefined;
  const take = (chunk: Buffer): void => {
    kept = Buffer.concat([kept, chunk]);
    if (kept.length > keep) kept = Buffer.from(kept.subarray(kept.length - keep)); // a copy, or the whole would be held
  };
  socket.on("data", (chunk: Buffer) => {
    take(chunk);
    taken += chunk.length;
    if (taken < perSecond || waiting) return;
    socket.pause();
    waiting = setTimeout(() => {
      [taken, waiting] = [0, undefined];
      socket.resume();
    }, 1_000).unref();
  });
  socket.on("error", () => undefined); // there is nobody to tell but the tail, which ends there

  return {
    text() {
      if (!socket.destroyed) drain(fd, take);
      return kept.toString("utf8").trim();
    },
    [Symbol.dispose]() {
      clearTimeout(waiting);
      socket.destroy();
    },
  };
}

/** Once through what the pipe holds: it is as much as a pipe takes. */
function drain(fd: number, take: (chunk: Buffer) => void): void {
  const buffer = Buffer.alloc(chunkBytes);
  try {
    take(Buffer.from(buffer.subarray(0, readSync(fd, buffer, 0, chunkBytes, null))));
  } catch (error) {
    if (!(error instanceof Error && "code" in error && error.code === "EAGAIN")) throw error; // there is nothing in it
  }
}
