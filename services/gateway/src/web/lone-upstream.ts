// HTTP/2 connections to one gRPC server, with prior knowledge and without TLS: the upstream of a gateway that runs alone.
//
// A call goes to the first connection that has room for one more; when none has, another is opened, until it is too many for the server's
// good. A connection that ended is forgotten, and the next call opens a new one. Nothing that was sent is sent again.
import { connect, type ClientHttp2Session } from "node:http2";
import { hostPortText, PitwallError, type HostPort, type Log } from "@pitwall/runtime";
import { untilUp } from "../session-up.ts";
import { upstreamHeaders } from "./headers.ts";
import type { OpenUpstream } from "./upstreams.ts";

/** Beyond these, calls wait in the last one for their turn. */
const maxConnections = 16;

interface Connection {
  readonly session: ClientHttp2Session;
  calls: number;
}

/** Disposing it ends the connections, and the calls on them. */
export interface LoneUpstream extends Disposable {
  readonly open: OpenUpstream;
  /** Resolves when it answers. Throws `unavailable`. */
  reach(): Promise<void>;
}

export function openLoneUpstream({ host, port }: HostPort, log: Log): LoneUpstream {
  const authority = `http://${hostPortText({ host, port })}`;
  let connections: readonly Connection[] = [];
  let connecting: Promise<Connection> | undefined;

  async function connectOnce(): Promise<Connection> {
    const session = connect(authority, { settings: { enablePush: false } });
    try {
      await untilUp(session, "remoteSettings", authority); // which say how many calls it takes at once
    } catch (cause) {
      throw new PitwallError("unavailable", "the upstream cannot be reached right now; try again", {
        reason: "UPSTREAM_UNREACHABLE",
        cause,
      });
    }
    const made: Connection = { session, calls: 0 };
    const forget = (): void => void (connections = connections.filter((other) => other !== made));
    session
      .on("error", (error: unknown) => log.debug("the connection to the upstream broke", { error }))
      .on("goaway", forget)
      .on("close", forget);
    connections = [...connections, made];
    return made;
  }

  async function connection(): Promise<Connection> {
    for (;;) {
      const usable = connections.filter(({ session }) => !session.closed && !session.destroyed);
      const free = usable.find(({ session, calls }) => calls < (session.remoteSettings.maxConcurrentStreams ?? Infinity));
      const last = usable.length >= maxConnections ? usable.at(-1) : undefined;
      const found = free ?? last;
      if (found) return found;
      connecting ??= connectOnce().finally(() => {
        connecting = undefined;
      });
      await connecting;
    }
  }

  return {
    reach: async () => void (await connection()),
    async open(path, headers) {
      const used = await connection();
      const call = used.session.request(upstreamHeaders(path, headers));
      used.calls++;
      call.once("close", () => used.calls--);
      return call;
    },
    [Symbol.dispose]() {
      for (const { session } of connections) session.destroy();
    },
  };
}
