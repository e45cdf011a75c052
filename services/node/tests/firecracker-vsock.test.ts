// The way to a guest through Firecracker's UNIX socket, with a socket that answers as Firecracker does and as it does not.
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it, onTestFinished } from "vitest";
import { dialVsock } from "../src/firecracker/vsock.ts";

/** The path of a socket at which `serve` takes what arrives. */
async function listen(serve: (socket: Socket) => unknown): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), "pitwall-vsock-"));
  const path = join(dir, "v.sock");
  const open = new Set<Socket>();
  const server = createServer((socket) => {
    open.add(socket);
    socket.on("error", () => undefined);
    serve(socket);
  });
  server.listen(path);
  await once(server, "listening");
  onTestFinished(async () => {
    for (const socket of open) socket.destroy();
    server.close();
    await rm(dir, { recursive: true });
  });
  return path;
}

const limit = (): AbortSignal => AbortSignal.timeout(5_000);

it.each(["all at once", "byte by byte"])("asks for the port, and the session is what follows the answer, %s", async (how) => {
  let asked = "";
  const path = await listen(async (socket) => {
    asked = String((await once(socket, "data"))[0]);
    const bytes = "OK 1073741824\nhello";
    for (const part of how === "byte by byte" ? bytes : [bytes]) {
      socket.write(part);
      await new Promise((resolve) => setImmediate(resolve));
    }
    socket.end();
  });
  const stream = await dialVsock(path, 1024, limit());
  let text = "";
  for await (const chunk of stream.setEncoding("utf8")) text += chunk;
  expect(asked).toBe("CONNECT 1024\n");
  expect(text).toBe("hello");
});

it.each([
  ["closed at once, as when nobody listens in the guest", (socket: Socket): void => void socket.once("data", () => socket.end())],
  ["answered with something else", (socket: Socket): void => void socket.write("NO 1\n")],
  ["answered without end", (socket: Socket): void => void socket.write("OK 11111111111111111111111111")],
  ["answered with a word that is no number", (socket: Socket): void => void socket.write("OK x\n")],
])("is unavailable when the connection is %s", async (_, serve) => {
  const path = await listen(serve);
  await expect(dialVsock(path, 1024, limit())).rejects.toMatchObject({ fault: "unavailable", reason: "GUEST_SILENT" });
});

it("is unavailable when the guest is silent and the signal aborts, and closes the connection", async () => {
  const closed = Promise.withResolvers<void>();
  const path = await listen((socket) => void socket.resume().once("close", () => closed.resolve()));
  await expect(dialVsock(path, 1024, AbortSignal.timeout(100))).rejects.toMatchObject({ fault: "unavailable" });
  await closed.promise;
});

it("is unavailable when there is no such socket, or the signal has aborted before", async () => {
  await expect(dialVsock("/nowhere/v.sock", 1024, limit())).rejects.toMatchObject({ fault: "unavailable" });
  await expect(dialVsock("/nowhere/v.sock", 1024, AbortSignal.abort())).rejects.toMatchObject({ fault: "unavailable" });
});
