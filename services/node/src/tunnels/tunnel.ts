// Connects a gateway to a target in a VM: the guest first, then the gateway, so that a refusal costs the gateway nothing.
import { createHash } from "node:crypto";
import { isIP } from "node:net";
import type { Duplex } from "node:stream";
import { connect, type TLSSocket } from "node:tls";
import type { Identity } from "@pitwall/enroll";
import type { TunnelRequest } from "@pitwall/proto/pitwall/v1/link.ts";
import {
  hostPort,
  messageChain,
  PitwallError,
  planted,
  readLine,
  splice,
  timeLimit,
  type Clock,
  type Failpoints,
  type Log,
} from "@pitwall/runtime";
import { ClientError, Status } from "nice-grpc";
import type { Machines } from "../machine/machines.ts";

const limitMs = 10_000;
const maxReplyBytes = 256;

/** Opens tunnels until it is closed. */
export interface Tunnels {
  /** Resolves once bytes flow, or to why they do not. */
  open(request: TunnelRequest): Promise<{ reason: string; tokenDigest: string } | undefined>;
  close(): void;
}

/** Those of which a way leads into the VM. */
interface Reachable {
  /** Throws `not-found`. */
  get(vmId: string): Pick<ReturnType<Machines["get"]>, "report" | "dial">;
}

export interface TunnelParts {
  readonly machines: Reachable;
  readonly identity: Pick<Identity, "tls">;
  readonly clock: Clock;
  readonly failpoints: Failpoints;
  readonly log: Log;
}

export function openTunnels({ machines, identity, clock, failpoints, log }: TunnelParts): Tunnels {
  const stop = new AbortController();

  async function acceptedByGuest(request: TunnelRequest, signal: AbortSignal): Promise<Duplex> {
    await failpoints.at("tunnel.stream.opened", request.vmId);
    const guest = await dialGuest(machines, request, signal);
    try {
      await failpoints.at("tunnel.guest.accepted", request.vmId);
      return guest;
    } catch (error) {
      guest.destroy();
      throw error;
    }
  }

  return {
    async open(request) {
      using limit = timeLimit(clock, limitMs);
      const signal = AbortSignal.any([stop.signal, limit.signal]);
      try {
        const guest = await acceptedByGuest(request, signal).catch(async (error: unknown) => {
          // The gateway waits for this token: it should hear now that nothing will come.
          const refused = await dialGateway(request, identity, signal, reasonOf(error)).catch(() => undefined);
          refused?.destroy();
          throw error;
        });
        const gateway = await dialGateway(request, identity, signal).catch((error: unknown) => {
          guest.destroy();
          throw error;
        });
        try {
          await failpoints.at("tunnel.node.dialled", request.vmId);
        } catch (error) {
          for (const end of [gateway, guest]) end.destroy();
          throw error;
        }
        const onStop = (): void => void gateway.destroy();
        stop.signal.addEventListener("abort", onStop, { once: true });
        void splice(gateway, guest)
          .finally(() => stop.signal.removeEventListener("abort", onStop)) // which would keep it for ever
          .then(() => failpoints.at("tunnel.closed", request.vmId))
          .catch(() => undefined); // there is nothing left to fail
        return undefined;
      } catch (error) {
        log.info("a tunnel was not opened", { vm: request.vmId, error });
        return { reason: reasonOf(error), tokenDigest: createHash("sha256").update(request.token).digest("base64url") };
      }
    },
    close: () => stop.abort(),
  };
}

/** Only into the placement that is meant: what is left of an older one is nobody's any more. */
async function dialGuest(machines: Reachable, { vmId, epoch, target }: TunnelRequest, signal: AbortSignal): Promise<Duplex> {
  if (!target) throw new PitwallError("invalid", "the request has no target");
  const machine = machines.get(vmId);
  if (machine.report.epoch !== epoch && !planted("gateway-ignores-epoch"))
    throw new PitwallError("unavailable", "the node has another placement of the VM", { reason: "VM_MOVED" });
  return machine.dial(target, signal).catch((error: unknown) => {
    // What a guest does not know it takes for nothing.
    if (!target.target?.$case.startsWith("limited") || !(error instanceof ClientError) || error.code !== Status.INVALID_ARGUMENT)
      throw error;
    throw new PitwallError("state", "the VM was started by a version that cannot limit whom one logs in as: start it anew");
  });
}

/** One line. A guest's status says more than the words around it. */
function reasonOf(error: unknown): string {
  return (error instanceof ClientError ? error.details : messageChain(error)).replaceAll(/[^ -~]/g, " ").slice(0, 256);
}

/** With `refusal`, the gateway is only told why. */
async function dialGateway(
  { gatewayAddress, token }: TunnelRequest,
  identity: Pick<Identity, "tls">,
  signal: AbortSignal,
  refusal?: string,
): Promise<TLSSocket> {
  const { host, port } = hostPort.parse(gatewayAddress);
  const socket = connect({ host, port, ...identity.tls(), minVersion: "TLSv1.3", ...(isIP(host) === 0 && { servername: host }) });
  socket.allowHalfOpen = true;
  socket.setNoDelay(true);
  const onAbort = (): void => {
    socket.destroy(new Error("the gateway does not answer"));
  };
  signal.addEventListener("abort", onAbort, { once: true });
  try {
    await new Promise<void>((resolve, reject) => socket.once("secureConnect", resolve).once("error", reject));
    socket.write(`PITWALL-TUNNEL/1 ${token}${refusal === undefined ? "" : ` ERR ${refusal}`}\n`);
    const reply = await readLine(socket, maxReplyBytes, signal);
    if (reply !== "OK") throw new Error(`the gateway refused: ${reply}`);
    return socket;
  } catch (error) {
    socket.destroy();
    throw error;
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}
