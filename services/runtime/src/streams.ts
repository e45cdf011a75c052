// Byte streams: a line at the beginning of one, and two joined into one path.
import type { Duplex } from "node:stream";
import { pipeline } from "node:stream/promises";
import { PitwallError } from "./errors.ts";

/** The bytes up to the first line feed, as text; what follows stays in the stream. Throws `corrupt` beyond `limit` bytes or at the end. */
export async function readLine(stream: Duplex, limit: number, signal: AbortSignal): Promise<string> {
  const parts: Buffer[] = [];
  let size = 0;
  for (;;) {
    signal.throwIfAborted();
    const chunk: unknown = stream.read();
    if (Buffer.isBuffer(chunk)) {
      const at = chunk.indexOf(0x0a);
      parts.push(at < 0 ? chunk : chunk.subarray(0, at));
      size += chunk.length;
      if (at >= 0 && at + 1 < chunk.length) stream.unshift(chunk.subarray(at + 1));
      if (at >= 0) return Buffer.concat(parts).toString("latin1");
      if (size > limit) throw new PitwallError("corrupt", "the peer did not send a line");
      continue;
    }
    if (stream.readableEnded || stream.destroyed) throw new PitwallError("unavailable", "the peer closed the connection");
    await new Promise<void>((resolve, reject) => {
      const settle = (): void => {
        stream.off("readable", onReady).off("end", onReady).off("close", onReady).off("error", onError);
        signal.removeEventListener("abort", onAbort);
      };
      const onReady = (): void => {
        settle();
        resolve();
      };
      const onError = (error: unknown): void => {
        settle();
        reject(error);
      };
      const onAbort = (): void => onError(signal.reason);
      stream.once("readable", onReady).once("end", onReady).once("close", onReady).once("error", onError);
      signal.addEventListener("abort", onAbort, { once: true });
    });
  }
}

/** Joins two streams both ways, half-close included. Resolves when both are done; an error of one ends the other. */
export async function splice(left: Duplex, right: Duplex): Promise<void> {
  const ignore = (): void => undefined;
  left.on("error", ignore);
  right.on("error", ignore);
  const end = (): void => {
    left.destroy();
    right.destroy();
  };
  const ways = [pipeline(left, right), pipeline(right, left)];
  for (const way of ways) way.catch(end);
  await Promise.allSettled(ways);
  end();
}
