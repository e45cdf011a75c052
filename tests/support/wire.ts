// A wire between a client and a server that can be cut: what is open breaks, and nothing is let through until it is mended.
import { once } from "node:events";
import { connect, createServer, type Socket } from "node:net";
import { splice } from "@pitwall/runtime";

/** Disposing it cuts it for good. */
export interface Wire extends AsyncDisposable {
  /** On 127.0.0.1. */
  readonly port: number;
  /** How many connections have gone through. */
  readonly connections: () => number;
  cut(): void;
  mend(): void;
}

/** To a port on 127.0.0.1. */
export async function openWire(to: number): Promise<Wire> {
  const open = new Set<Socket>();
  let isCut = false;
  let connections = 0;
  const server = createServer({ allowHalfOpen: true }, (near) => {
    near.on("error", () => undefined);
    if (isCut) return void near.resetAndDestroy();
    connections++;
    const far = connect({ port: to, host: "127.0.0.1", allowHalfOpen: true }).on("error", () => undefined);
    for (const socket of [near, far]) open.add(socket.once("close", () => open.delete(socket)));
    void splice(near, far);
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  const cut = (): void => {
    isCut = true;
    for (const socket of open) socket.resetAndDestroy();
  };
  return {
    port: typeof address === "object" ? (address?.port ?? 0) : 0,
    connections: () => connections,
    cut,
    mend: () => void (isCut = false),
    async [Symbol.asyncDispose]() {
      cut();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
