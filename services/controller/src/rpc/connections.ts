// The connections of one port, by their peer's address: for hearing of a peer below its calls, where a ping is no message.
import { subscribe, unsubscribe } from "node:diagnostics_channel";
import { Socket } from "node:net";

/** Published by node:net for each connection that any server of this process accepts. */
const channel = "net.server.socket";
/** The kernel's probes: a peer that vanished ends within 10 s, and that costs this process nothing. */
const probe = { enable: true, initialDelay: 5_000, interval: 1_000, count: 5 };

/** Disposing it forgets all of them. */
export class Connections implements Disposable {
  readonly #sockets = new Map<string, Socket>();
  #port = 0;

  /** Those that are accepted on this port from now on. */
  follow(port: number): void {
    this.#port = port;
    subscribe(channel, this.#onAccepted);
  }

  /** How many bytes have come so far over the connection of a peer, `address:port` as grpc-js says it; undefined: it is not known. */
  receivedFrom(peer: string): (() => number) | undefined {
    const socket = this.#sockets.get(peer);
    return socket && ((): number => socket.bytesRead);
  }

  readonly #onAccepted = (message: unknown): void => {
    const { socket } = message as { readonly socket: unknown }; // as Node documents it
    if (!(socket instanceof Socket) || socket.localPort !== this.#port) return;
    const peer = `${socket.remoteAddress}:${socket.remotePort}`;
    this.#sockets.set(peer, socket);
    socket.setKeepAlive(probe);
    socket.once("close", () => {
      if (this.#sockets.get(peer) === socket) this.#sockets.delete(peer);
    });
  };

  [Symbol.dispose](): void {
    unsubscribe(channel, this.#onAccepted);
    this.#sockets.clear();
  }
}
