// Who is at the web port, by the address that they come from, and whether one more is let in.
//
// Of connections beyond an address's share, the oldest that has asked for nothing yet makes room: silent ones keep nobody out.
import type { Socket } from "node:net";
import { PitwallError } from "@pitwall/runtime";
import { peerOf, sourceOf } from "../source.ts";
import type { Refusal, WebLimits } from "./limits.ts";

interface Source {
  readonly key: string;
  connections: number;
  calls: number;
  /** In the order that they came in. */
  readonly silent: Set<Connection>;
}

interface Connection {
  readonly socket: Socket;
  readonly source: Source;
}

export class Admission {
  readonly #limits: WebLimits;
  readonly #onRefused: (why: Refusal) => void;
  readonly #sources = new Map<string, Source>();
  /** By the other end, which TLS and HTTP/2 on top of a connection know, too. */
  readonly #connections = new Map<string, Connection>();
  readonly #silent = new Set<Connection>();
  /** Closed to make room for others, which need not wait until they have closed. */
  readonly #left = new WeakSet<Connection>();
  #calls = 0;

  constructor(limits: WebLimits, onRefused: (why: Refusal) => void) {
    this.#limits = limits;
    this.#onRefused = onRefused;
  }

  /** Takes it in, or closes it. `onLeft` is called once for each that was taken in. */
  connect(socket: Socket, onLeft: () => void): boolean {
    const source = this.#source(socket.remoteAddress);
    const isFull = this.#connections.size >= this.#limits.connections;
    if (isFull || source.connections >= this.#limits.connectionsPerSource) {
      this.#onRefused(isFull ? "connections" : "connections_per_source");
      const [oldest] = isFull ? this.#silent : source.silent;
      if (!oldest) {
        socket.destroy();
        return false;
      }
      oldest.socket.destroy();
      this.#leave(oldest);
    }
    const connection = { socket, source };
    const key = peerOf(socket);
    source.connections++;
    source.silent.add(connection);
    this.#silent.add(connection);
    this.#sources.set(source.key, source);
    this.#connections.set(key, connection);
    socket.once("close", () => {
      this.#leave(connection);
      if (this.#connections.get(key) === connection) this.#connections.delete(key);
      onLeft();
    });
    return true;
  }

  /** It has asked for something, whole. */
  spoke(socket: Pick<Socket, "remoteAddress" | "remotePort">): void {
    const connection = this.#connections.get(peerOf(socket));
    if (connection) this.#hear(connection);
  }

  /** Returns what is called when the call is over. Throws `exhausted`. */
  call(address: string | undefined): () => void {
    const source = this.#source(address);
    if (this.#calls >= this.#limits.calls) throw this.#tooMany("calls", `${this.#limits.calls} calls`);
    if (source.calls >= this.#limits.callsPerSource)
      throw this.#tooMany("calls_per_source", `${this.#limits.callsPerSource} calls from one address`);
    source.calls++;
    this.#calls++;
    this.#sources.set(source.key, source);
    let isOver = false;
    return () => {
      if (isOver) return;
      isOver = true;
      source.calls--;
      this.#calls--;
      this.#forget(source);
    };
  }

  #source(address: string | undefined): Source {
    const key = sourceOf(address ?? "");
    return this.#sources.get(key) ?? { key, connections: 0, calls: 0, silent: new Set() };
  }

  #hear(connection: Connection): void {
    this.#silent.delete(connection);
    connection.source.silent.delete(connection);
  }

  #leave(connection: Connection): void {
    if (!this.#left.has(connection)) connection.source.connections--;
    this.#left.add(connection);
    this.#hear(connection);
    this.#forget(connection.source);
  }

  #forget(source: Source): void {
    if (source.connections === 0 && source.calls === 0) this.#sources.delete(source.key);
  }

  #tooMany(why: Refusal, what: string): PitwallError {
    this.#onRefused(why);
    return new PitwallError("exhausted", `this gateway takes ${what} at once; try again later`, { reason: "TOO_MANY_CALLS" });
  }
}
