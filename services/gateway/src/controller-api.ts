// The gateway's HTTP/2 connections to the controllers' API. Calls on them are the users'.
//
// One connection is used until it ends or does not answer pings; the next call then goes to the next controller. Nothing that was sent is
// sent again: whoever calls knows whether that is safe.
import { connect, type ClientHttp2Session } from "node:http2";
import type { Identity } from "@pitwall/enroll";
import { PitwallError, type Log } from "@pitwall/runtime";
import { untilUp } from "./session-up.ts";

const pingEveryMs = 1_000;
/** A controller may pause for a second. */
const pingLimitMs = 2_500;

export interface ControllerApi extends Disposable {
  /** A live connection. Throws `unavailable` when no controller takes one. */
  session(): Promise<ClientHttp2Session>;
}

export function openApi(identity: Pick<Identity, "controllers" | "tls">, log: Log): ControllerApi {
  let current: ClientHttp2Session | undefined;
  let connecting: Promise<ClientHttp2Session> | undefined;
  let preferred = Math.floor(Math.random() * identity.controllers().length);
  let isClosed = false;

  /** To the preferred controller, or the first after it that takes it. */
  async function connectAnywhere(): Promise<ClientHttp2Session> {
    const all = identity.controllers();
    let failure: unknown;
    for (let tried = 0; tried < all.length; tried++) {
      const at = all[preferred % all.length];
      try {
        const made = await connectTo(at?.api ?? "", identity.tls().ca);
        if (isClosed) made.destroy();
        else use(made, at?.api ?? "");
        return made;
      } catch (error) {
        failure = error;
        preferred++;
      }
    }
    throw new PitwallError("unavailable", "the controller cannot be reached right now; try again", {
      reason: "CONTROLLER_UNREACHABLE",
      cause: failure,
    });
  }

  function use(made: ClientHttp2Session, api: string): void {
    const pinging = setInterval(() => ping(made), pingEveryMs).unref();
    const forget = (): void => {
      clearInterval(pinging);
      if (current !== made) return;
      current = undefined;
      preferred++;
      if (!isClosed) log.info("the connection to a controller ended", { controller: api });
    };
    made.on("error", forget).on("close", forget).on("goaway", forget);
    current = made;
  }

  return {
    async session() {
      if (current && !current.closed && !current.destroyed) return current;
      connecting ??= connectAnywhere().finally(() => {
        connecting = undefined;
      });
      return connecting;
    },
    [Symbol.dispose]() {
      isClosed = true;
      current?.destroy();
    },
  };
}

async function connectTo(api: string, ca: string): Promise<ClientHttp2Session> {
  const made = connect(`https://${api}`, { ca, settings: { initialWindowSize: 1 << 20 } });
  await untilUp(made, "connect", api);
  return made;
}

function ping(session: ClientHttp2Session): void {
  if (session.destroyed) return;
  const limit = setTimeout(() => session.destroy(new Error("the controller does not answer")), pingLimitMs).unref();
  session.ping(() => clearTimeout(limit)); // also called, with an error, when the session ends
}
