// A port for a server that another process is to open.
import { randomInt } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:net";
import { PitwallError } from "./errors.ts";

/** Above the ports that services are known by, and below those that the kernel gives to clients and to servers that ask for none (ip(7)). */
const [firstPort, endPort] = [20_000, 32_768];
const tries = 100;

/**
 * Of this machine's loopback, and free a moment ago. It is drawn from where the kernel takes none by itself: until it is bound, a port of those
 * may become any connection's. Throws `exhausted`.
 */
export async function freePort(): Promise<number> {
  for (let left = tries; left > 0; left--) {
    const port = randomInt(firstPort, endPort);
    if (await isFreePort(port)) return port;
  }
  throw new PitwallError("exhausted", `none of ${tries} ports from ${firstPort} to ${endPort - 1} was free`);
}

/** Whether nothing listens there on the loopback, nor has it for a connection. */
export async function isFreePort(port: number): Promise<boolean> {
  const server = createServer();
  try {
    server.listen(port, "127.0.0.1");
    await once(server, "listening");
  } catch {
    return false;
  }
  server.close();
  await once(server, "close");
  return true;
}
