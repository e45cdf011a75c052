// QEMU's control socket: one command per connection (docs/interop/qmp-spec in QEMU's tree).
import { connect, type Socket } from "node:net";
import { createInterface } from "node:readline";
import { PitwallError } from "@pitwall/runtime";
import { z } from "zod";

const message = z.object({ QMP: z.unknown(), return: z.unknown(), error: z.object({ desc: z.string() }), event: z.string() }).partial();
const timeoutMs = 10_000;

/** Runs one command and returns its result. Rejects with `unavailable`. */
export async function qmp(path: string, command: string, args?: Readonly<Record<string, unknown>>, limitMs = timeoutMs): Promise<unknown> {
  const socket = connect(path);
  const timer = setTimeout(() => socket.destroy(new Error("QMP does not answer")), limitMs);
  try {
    return await converse(socket, { execute: command, ...(args && { arguments: args }) });
  } catch (error) {
    throw new PitwallError("unavailable", "QEMU's control socket failed", { reason: "VMM_SILENT", cause: error });
  } finally {
    clearTimeout(timer);
    socket.destroy();
  }
}

async function converse(socket: Socket, command: object): Promise<unknown> {
  const failed = new Promise<never>((_, reject) => socket.once("error", reject));
  failed.catch(() => undefined); // raced below
  const pending: object[] = [{ execute: "qmp_capabilities" }, command];
  const answered = (async () => {
    for await (const line of createInterface({ input: socket, crlfDelay: Infinity })) {
      const { QMP, error, event, return: result } = message.parse(JSON.parse(line));
      if (event !== undefined) continue;
      if (error) throw new Error(error.desc);
      if (QMP === undefined && pending.length === 0) return result;
      const next = pending.shift();
      if (next === undefined) return undefined;
      socket.write(`${JSON.stringify(next)}\n`);
    }
    throw new Error("QMP closed");
  })();
  return Promise.race([answered, failed]);
}
