// The gateway's way to AccessService with its own certificate, on whichever controller answers.
import { connectivityState, type Channel } from "@grpc/grpc-js";
import type { Identity } from "@pitwall/enroll";
import { AccessServiceDefinition } from "@pitwall/proto/pitwall/v1/access.ts";
import { EnrollServiceDefinition } from "@pitwall/proto/pitwall/v1/enroll.ts";
import { keepalive, PitwallError, sleepOrAbort, statusOf, wireDeadline, type Fault, type Log } from "@pitwall/runtime";
import { errorDetailsClientMiddleware, RichClientError } from "nice-grpc-error-details";
import { ChannelCredentials, ClientError, createChannel, createClientFactory, Status, type Client } from "nice-grpc";

const refreshMs = 10_000;
/** While it knows of one: the moment that one is gone nobody tells it of others. */
const aloneRefreshMs = 2_000;
const refreshLimitMs = 5_000;

const factory = createClientFactory().use(errorDetailsClientMiddleware).use(wireDeadline);

type WholeClient = Client<typeof AccessServiceDefinition, { timeoutMs?: number }>;
export type AccessClient = Pick<
  WholeClient,
  "authorizeSsh" | "openTunnel" | "endSessions" | "checkTunnels" | "openRecording" | "appendRecording" | "closeRecording"
>;

interface Connection {
  readonly link: string;
  readonly channel: Channel;
  readonly client: WholeClient;
}

/** Disposing it closes the connections. */
export interface ControllerAccess extends AsyncDisposable {
  client(): AccessClient;
}

/**
 * AccessService on the link port. A controller that cannot be reached is left for the next one, and the call made there: what these calls
 * do may be done twice. A renewed certificate makes the next call use a new connection. Learns where controllers are, every 10 s, or 2 s while it knows of one.
 */
export function openAccess(identity: Identity, log: Log): ControllerAccess {
  const stop = new AbortController();
  let current: Connection | undefined;
  let preferred = Math.floor(Math.random() * identity.controllers().length);

  function leave(old: Connection): void {
    if (current === old) current = undefined;
    setTimeout(() => old.channel.close(), 30_000).unref(); // calls in flight end on it
  }
  identity.onRenewed(() => current && leave(current));

  function connection(): Connection {
    if (!current) {
      const { key, cert, ca } = identity.tls();
      const links = identity.controllers().map(({ link }) => link);
      const link = links[preferred % links.length] ?? "";
      const channel = createChannel(link, ChannelCredentials.createSsl(Buffer.from(ca), Buffer.from(key), Buffer.from(cert)), {
        ...keepalive,
        "grpc.initial_reconnect_backoff_ms": 200,
        "grpc.max_reconnect_backoff_ms": 1_000,
        "grpc.use_local_subchannel_pool": 1,
      });
      current = { link, channel, client: factory.create(AccessServiceDefinition, channel) };
    }
    return current;
  }

  /** Whether it was the connection that failed, and not what was asked for. */
  function isGone({ channel }: Connection, error: unknown): boolean {
    return (
      error instanceof ClientError &&
      (error.code === Status.UNAVAILABLE || error.code === Status.CANCELLED) &&
      channel.getConnectivityState(false) !== connectivityState.READY
    );
  }

  async function anywhere<T>(ask: (client: WholeClient) => Promise<T>): Promise<T> {
    for (let tried = 1; ; tried++) {
      const used = connection();
      try {
        return await ask(used.client);
      } catch (error) {
        if (!isGone(used, error)) throw error;
        if (current === used) preferred++;
        leave(used);
        if (tried >= identity.controllers().length) throw error;
        log.warn("a controller cannot be reached: trying the next one", { controller: used.link });
      }
    }
  }

  async function refresh(): Promise<void> {
    while (!stop.signal.aborted) {
      await anywhere(async () => {
        const { channel } = connection();
        const enroll = createClientFactory().use(wireDeadline).create(EnrollServiceDefinition, channel);
        const { controllers } = await enroll.listControllers({}, { timeoutMs: refreshLimitMs });
        identity.learn(controllers);
      }).catch((error: unknown) => log.debug("no controller says where the others are", { error }));
      await sleepOrAbort(identity.controllers().length > 1 ? refreshMs : aloneRefreshMs, stop.signal);
    }
  }
  const refreshing = refresh();

  const client: AccessClient = {
    authorizeSsh: (request, options) => anywhere((access) => access.authorizeSsh(request, options)),
    openTunnel: (request, options) => anywhere((access) => access.openTunnel(request, options)),
    endSessions: (request, options) => anywhere((access) => access.endSessions(request, options)),
    checkTunnels: (request, options) => anywhere((access) => access.checkTunnels(request, options)),
    openRecording: (request, options) => anywhere((access) => access.openRecording(request, options)),
    appendRecording: (request, options) => anywhere((access) => access.appendRecording(request, options)),
    closeRecording: (request, options) => anywhere((access) => access.closeRecording(request, options)),
  };
  return {
    client: () => client,
    async [Symbol.asyncDispose]() {
      stop.abort();
      current?.channel.close();
      await refreshing;
    },
  };
}

/** What the controller answered, as this process's own error. */
export function fromRpc(error: unknown): unknown {
  if (!(error instanceof ClientError)) return error;
  const fault = (Object.keys(statusOf) as Fault[]).find((name) => statusOf[name] === error.code) ?? "internal"; // the keys of a Record<Fault, …>
  // Nobody here cancels a call by its status: a controller that stops does, when it resets what is under way.
  if (fault === "unavailable" || error.code === Status.CANCELLED)
    return new PitwallError("unavailable", "the controller cannot be reached right now; try again", {
      reason: "CONTROLLER_UNREACHABLE",
      cause: error,
    });
  return new PitwallError(fault, error.details, { ...reasonOf(error), cause: error });
}

function reasonOf(error: ClientError): { readonly reason?: string } {
  const details = error instanceof RichClientError ? error.extra : [];
  const [reason] = details.flatMap((detail) => (detail.$type === "google.rpc.ErrorInfo" ? [detail.reason] : []));
  return reason === undefined ? {} : { reason };
}
