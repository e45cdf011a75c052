// The host end of the guest channel: a byte stream that begins with a preamble (docs/architecture.md, "Guest channel").
import { randomBytes } from "node:crypto";
import type { Duplex } from "node:stream";
import { PitwallError } from "@pitwall/runtime";

const magic = Buffer.from("PWCHAN1\n");
const resendMs = 300;

/** Exchanges preambles on a fresh connection; what resolves is the session. Destroys the stream when the signal aborts. */
export async function greetGuest(stream: Duplex, signal: AbortSignal): Promise<Duplex> {
  const unavailable = (cause?: unknown): PitwallError =>
    new PitwallError("unavailable", "the guest does not answer", { reason: "GUEST_SILENT", cause });
  return new Promise((resolve, reject) => {
    let preamble = Buffer.alloc(0);
    let held = Buffer.alloc(0);
    const send = (): void => {
      preamble = Buffer.concat([magic, randomBytes(16)]);
      stream.write(preamble);
    };
    const timer = setInterval(send, resendMs);
    const settle = (): void => {
      clearInterval(timer);
      signal.removeEventListener("abort", onAbort);
      stream.off("data", onData).off("close", onClose).off("error", onError).off("end", onClose);
    };
    const fail = (cause?: unknown): void => {
      settle();
      stream.on("error", () => undefined); // already reported
      stream.destroy();
      reject(unavailable(cause));
    };
    const onAbort = (): void => fail(signal.reason);
    const onClose = (): void => fail();
    const onError = (error: unknown): void => fail(error);
    const onData = (chunk: Buffer): void => {
      held = Buffer.concat([held, chunk]);
      const at = held.indexOf(preamble);
      if (at < 0) {
        held = held.subarray(Math.max(0, held.length - preamble.length + 1));
        return;
      }
      settle();
      stream.pause();
      const rest = held.subarray(at + preamble.length);
      if (rest.length > 0) stream.unshift(rest);
      resolve(stream);
    };
    if (signal.aborted) return onAbort();
    signal.addEventListener("abort", onAbort, { once: true });
    stream.on("data", onData).on("close", onClose).on("error", onError).on("end", onClose);
    send();
  });
}
