// The gateway's HTTP/2 connections to the controllers' API, one to each. Calls on them are the users'.
//
// Of a controller: absent -> connected -> serving <-> not serving; absent again when its connection ends, says goodbye or does not answer pings.
// A call goes to the serving one that has the fewest; when none serves, to one that is there and can say why. Each is asked by grpc.health.v1
// every second: one that has lost its database, or stops, says so. Nothing that was sent is sent again here.
import { connect, type ClientHttp2Session, type ClientHttp2Stream, type OutgoingHttpHeaders } from "node:http2";
import type { Identity } from "@pitwall/enroll";
import { PitwallError, type Log } from "@pitwall/runtime";
import { untilUp } from "./session-up.ts";

const lookEveryMs = 1_000;
/** A controller may pause for a second. */
const answerLimitMs = 2_500;

export interface ControllerApi extends Disposable {
  /** A call to a controller. Throws `unavailable` when none takes one. */
  request(headers: OutgoingHttpHeaders): Promise<ClientHttp2Stream>;
  /** Why nobody would be served now; undefined when somebody would. */
  notReady(): Promise<string | undefined>;
}

interface Controller {
  readonly api: string;
  session: ClientHttp2Session | undefined;
  connecting: Promise<void> | undefined;
  failure: unknown;
  isServing: boolean;
  calls: number;
}

export function openApi(identity: Pick<Identity, "controllers" | "tls">, log: Log): ControllerApi {
  let known: readonly Controller[] = [];
  let isClosed = false;

  /** Those that there are, and those that calls are still on. */
  function controllers(): readonly Controller[] {
    const named = identity.controllers().map(({ api }) => api);
    const fresh = named.filter((api) => !known.some((one) => one.api === api));
    known = [
      ...known.filter(({ api, session, connecting }) => named.includes(api) || session !== undefined || connecting !== undefined),
      ...fresh.map((api) => ({ ...{ api, session: undefined, connecting: undefined, failure: undefined }, isServing: false, calls: 0 })),
    ];
    return known.filter(({ api }) => named.includes(api));
  }

  async function connectTo(one: Controller): Promise<void> {
    const { ca } = identity.tls();
    const made = connect(`https://${one.api}`, { ca });
    try {
      await untilUp(made, "connect", one.api);
    } catch (error) {
      one.failure = error;
      return;
    }
    if (isClosed) return made.destroy();
    const forget = (): void => {
      if (one.session !== made) return;
      [one.session, one.isServing] = [undefined, false];
      if (!isClosed) log.info("the connection to a controller ended", { controller: one.api });
    };
    made.on("error", forget).on("close", forget).on("goaway", forget);
    one.session = made;
    await ask(one, made);
  }

  /** Sets whether it serves. Never rejects. */
  async function ask(one: Controller, session: ClientHttp2Session): Promise<void> {
    const isServing = await serves(session);
    if (one.session !== session || isServing === one.isServing) return;
    one.isServing = isServing;
    log.info(isServing ? "a controller serves" : "a controller does not serve", { controller: one.api });
  }

  function look(one: Controller): Promise<void> {
    const { session } = one;
    if (session) {
      ping(session);
      return ask(one, session);
    }
    one.connecting ??= connectTo(one).finally(() => {
      one.connecting = undefined;
    });
    return one.connecting;
  }

  const looking = setInterval(() => {
    for (const one of controllers()) void look(one);
  }, lookEveryMs).unref();

  /** The one with the fewest calls, any of several. */
  function best(all: readonly Controller[]): Controller | undefined {
    const usable = all.filter(({ session }) => session && !session.closed && !session.destroyed);
    const serving = usable.filter(({ isServing }) => isServing);
    const some = serving.length > 0 ? serving : usable;
    const fewest = Math.min(...some.map(({ calls }) => calls));
    const least = some.filter(({ calls }) => calls === fewest);
    return least[Math.floor(Math.random() * least.length)];
  }

  /** One to call. Throws `unavailable`. */
  async function pick(): Promise<Controller> {
    const found = best(controllers());
    if (found) return found;
    const all = controllers();
    const absent = all.filter(({ session }) => !session);
    // The first that serves is enough: another may take its time to be found dead.
    await Promise.any(
      absent.map(async (one) => {
        await look(one);
        if (!one.isServing) throw new Error("it does not serve");
      }),
    ).catch(() => undefined);
    const now = best(controllers());
    if (now) return now;
    throw new PitwallError("unavailable", "the controller cannot be reached right now; try again", {
      reason: "CONTROLLER_UNREACHABLE",
      cause: all.find(({ failure }) => failure !== undefined)?.failure,
    });
  }

  return {
    async request(headers) {
      const one = await pick();
      const call = one.session?.request(headers);
      if (!call) throw new PitwallError("unavailable", "the controller has just gone; try again", { reason: "CONTROLLER_UNREACHABLE" });
      one.calls++;
      return call.once("close", () => one.calls--);
    },
    async notReady() {
      const one = await pick();
      if (!one.isServing) await look(one);
      return one.isServing ? undefined : "no controller serves";
    },
    [Symbol.dispose]() {
      isClosed = true;
      clearInterval(looking);
      for (const { session } of known) session?.destroy();
    },
  };
}

function ping(session: ClientHttp2Session): void {
  if (session.destroyed) return;
  const limit = setTimeout(() => session.destroy(new Error("the controller does not answer")), answerLimitMs).unref();
  session.ping(() => clearTimeout(limit)); // also called, with an error, when the session ends
}

const healthCheck = {
  ":method": "POST",
  ":path": "/grpc.health.v1.Health/Check",
  "content-type": "application/grpc",
  te: "trailers",
} as const;
/** A message without fields: the whole server is meant. */
const wholeServer = Buffer.alloc(5);
/** A message whose field 1, the status, is 1, SERVING. */
const serving = Buffer.from([0, 0, 0, 0, 2, 0x08, 0x01]);

/** Whether it says that it serves, in time. Never rejects. */
async function serves(session: ClientHttp2Session): Promise<boolean> {
  if (session.destroyed || session.closed) return false;
  const call = session.request(healthCheck);
  const limit = setTimeout(() => call.destroy(), answerLimitMs).unref();
  return new Promise((resolve) => {
    const said: Buffer[] = [];
    call
      .on("error", () => undefined)
      .on("data", (chunk: Buffer) => said.push(chunk))
      .once("close", () => {
        clearTimeout(limit);
        resolve(Buffer.concat(said).equals(serving));
      })
      .end(wholeServer);
  });
}
