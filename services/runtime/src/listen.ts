// Servers begin to listen.
import type { HostPort } from "./config.ts";
import { PitwallError } from "./errors.ts";

/** What servers of node:net, node:http, node:tls and ssh2 have in common. */
interface Listener {
  once(event: "error", listener: (error: unknown) => void): unknown;
  listen(at: { port: number; host: string; exclusive: boolean }, listening: () => void): unknown;
  address(): unknown;
}

/**
 * The port that was bound. `service` is whose name a person hears when the address is taken. Processes that node:cluster started share a port
 * unless it is `exclusive`. Throws `unavailable`.
 */
export async function listen(
  server: Listener,
  { host, port }: HostPort,
  service: string,
  { exclusive = false }: { exclusive?: boolean } = {},
): Promise<number> {
  await new Promise<void>((resolve, reject) => {
    server.once("error", (cause) => reject(portInUse({ host, port }, service, cause)));
    server.listen({ port, host, exclusive }, resolve);
  });
  const address = server.address();
  return typeof address === "object" && address !== null && "port" in address && typeof address.port === "number" ? address.port : port;
}

/** Why a service cannot listen. */
export function portInUse({ host, port }: HostPort, service: string, cause: unknown): PitwallError {
  return new PitwallError("unavailable", `cannot listen on ${host}:${port}; is another ${service} running?`, {
    reason: "PORT_IN_USE",
    cause,
  });
}
