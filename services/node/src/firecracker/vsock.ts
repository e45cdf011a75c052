// A byte stream to a port of a VM's vsock device, through the UNIX socket at which Firecracker takes such connections
// (docs/vsock.md of Firecracker, "Host-initiated connections").
import { connect, type Socket } from "node:net";
import { PitwallError } from "@pitwall/runtime";

const answer = /^OK \d{1,10}\n/;
const maxAnswerBytes = "OK 4294967295\n".length;

/**
 * Connects to the guest's port. Rejects with `unavailable` when nobody listens there, Firecracker is gone, or the signal aborts: a guest
 * that is paused does not answer.
 */
export async function dialVsock(path: string, port: number, signal: AbortSignal): Promise<Socket> {
  const unavailable = (cause?: unknown): PitwallError =>
    new PitwallError("unavailable", "the guest does not answer", { reason: "GUEST_SILENT", cause });
  if (signal.aborted) throw unavailable(signal.reason);
  const socket = connect(path);
  return new Promise((resolve, reject) => {
    let held = Buffer.alloc(0);
    const settle = (): void => {
      signal.removeEventListener("abort", onAbort);
      socket.off("data", onData).off("close", onClose).off("error", onError);
    };
    const fail = (cause?: unknown): void => {
      settle();
      socket.on("error", () => undefined); // already reported
      socket.destroy();
      reject(unavailable(cause));
    };
    const onAbort = (): void => fail(signal.reason);
    const onClose = (): void => fail(new Error("Firecracker closed the connection: nobody listens in the guest"));
    const onError = (error: unknown): void => fail(error);
    const onData = (chunk: Buffer): void => {
      held = Buffer.concat([held, chunk]);
      const said = answer.exec(held.subarray(0, maxAnswerBytes).toString("latin1"))?.[0];
      if (said === undefined) {
        if (held.length >= maxAnswerBytes || held.includes("\n")) fail(new Error("Firecracker answered something else than OK"));
        return;
      }
      settle();
      socket.pause();
      const rest = held.subarray(said.length);
      if (rest.length > 0) socket.unshift(rest);
      resolve(socket);
    };
    signal.addEventListener("abort", onAbort, { once: true });
    socket.on("data", onData).on("close", onClose).on("error", onError);
    socket.write(`CONNECT ${port}\n`);
  });
}
