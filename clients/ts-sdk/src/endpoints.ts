// Several gateways of one installation: calls go to one of them, and from then on to the next when it does not answer.
import { ClientError, Status, type ClientMiddleware } from "nice-grpc-common";
import type { createChannel } from "nice-grpc-web";
import { isNetworkFailure } from "./calls.ts";

type Transport = NonNullable<Parameters<typeof createChannel>[1]>;

export interface Endpoints {
  /** What calls are addressed to; where they go is the transport's affair. */
  readonly address: string;
  /** The gateway of the moment. */
  current(): string;
  /** Goes there. */
  readonly transport: Transport;
  /** Leaves a gateway with the call that it did not answer: whoever makes that call again reaches the next one. */
  readonly leave: ClientMiddleware;
}

/** Throws TypeError when there is none. One that is left is not avoided: when all others are left too, it is its turn again. */
export function openEndpoints(endpoints: string | readonly string[], transport: Transport): Endpoints {
  const all = typeof endpoints === "string" ? [endpoints] : endpoints;
  const [address] = all;
  if (address === undefined) throw new TypeError("there must be an endpoint");
  let at = 0;
  const current = (): string => all[at] ?? address;
  return {
    ...{ address, current },
    transport: (params) => transport({ ...params, url: `${current()}${params.url.slice(address.length)}` }),
    leave: async function* leave(call, options) {
      const chosen = at;
      try {
        return yield* call.next(call.request, options);
      } catch (error) {
        // Of calls that fail together one moves on; the others are late.
        const isGone = error instanceof ClientError && (error.code === Status.UNAVAILABLE || isNetworkFailure(error));
        if (isGone && options.signal?.aborted !== true && at === chosen) at = (at + 1) % all.length;
        throw error;
      }
    },
  };
}
