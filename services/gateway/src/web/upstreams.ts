// Where a call goes: the controller's API, or powerunit in a VM.
import { connect as connectHttp2, type ClientHttp2Stream } from "node:http2";
import { duplexPair } from "node:stream";
import { invalid, PitwallError, splice } from "@pitwall/runtime";
import type { ControllerApi } from "../controller-api.ts";
import type { Tunnels } from "../tunnels/tunnels.ts";
import type { Door } from "./door.ts";
import { upstreamHeaders, type CallHeaders } from "./headers.ts";
import type { Principals } from "./principals.ts";
import { apiServices, guestService } from "./services.ts";

/** The controller's, with what lets tools ask for them. */
const controllerServices: ReadonlySet<string> = new Set([
  ...apiServices.map(({ fullName }) => fullName),
  "grpc.reflection.v1.ServerReflection",
  "grpc.reflection.v1alpha.ServerReflection",
]);
/** Load balancers ask it, and have no token. */
const healthService = "grpc.health.v1.Health";

/** Opens the upstream call for a request. Throws what a user may hear. */
export type OpenUpstream = (path: string, headers: CallHeaders) => Promise<ClientHttp2Stream>;

/** For requests that come through the {@link Door}; each counts to its principal until its upstream has ended. */
export function upstreams(
  door: Door,
  api: Pick<ControllerApi, "request">,
  tunnels: Pick<Tunnels, "open">,
  principals: Principals,
): OpenUpstream {
  return async (path, headers) => {
    const service = path.split("/")[1] ?? "";
    if (service === healthService) return api.request(upstreamHeaders(path, headers));
    const { credential, principal } = await door(one(headers["authorization"]));
    const leave = principals.enter(principal);
    try {
      const call = await open(service, credential, path, headers);
      return call.once("close", leave);
    } catch (error) {
      leave();
      throw error;
    }
  };

  async function open(service: string, bearerToken: string, path: string, headers: CallHeaders): Promise<ClientHttp2Stream> {
    if (controllerServices.has(service)) return api.request(upstreamHeaders(path, headers));
    if (service !== guestService.fullName)
      throw new PitwallError("unsupported", `there is no service ${JSON.stringify(service.slice(0, 80))} here`, {
        reason: "NO_SUCH_SERVICE",
      });
    const vm = headers["pitwall-vm"];
    if (typeof vm !== "string" || vm === "") throw invalid("pitwall-vm", "calls to GuestService name their VM in this metadata");
    const method = path.slice("/pitwall.v1.".length);
    const { stream } = await tunnels.open(
      { credential: { $case: "bearerToken", value: bearerToken } },
      vm,
      { target: { $case: "guestApi", value: {} } },
      { method },
    );
    // HTTP/2 takes a TLS socket's handle over, and node aborts when a write is still under way on it: it is given a stream of ours.
    const [inner, outer] = duplexPair();
    void splice(outer, stream);
    const session = connectHttp2("http://guest", { createConnection: () => inner });
    session.on("error", () => stream.destroy());
    const { authorization: _, ...rest } = upstreamHeaders(path, headers); // the guest has no business with it
    const call = session.request(rest);
    call.once("close", () => session.close(() => stream.destroy()));
    // It says why, when the gateway itself ended it.
    stream.once("error", (error) => error instanceof PitwallError && call.destroy(error));
    return call;
  }
}

/** A header that must not come twice. */
function one(value: CallHeaders[string]): string | undefined {
  return typeof value === "string" ? value : undefined;
}
