// What tests of hostile clients share: a gateway whose calls may hang, the harm, and the good client beside it.
import { expect, onTestFinished } from "vitest";
import { answer, frame, gatewayBefore } from "./gateway-before.ts";
import { RawHttp2 } from "./raw-http2.ts";
import { call, call2, session2, trailersOf } from "./upstream.ts";

export type Gateway = Awaited<ReturnType<typeof gatewayBefore>>;
export type Limits = NonNullable<NonNullable<Parameters<typeof gatewayBefore>[1]>["limits"]>;

/** Calls with the header `x-hang` are not answered. */
export async function start(limits: Limits = {}): Promise<Gateway> {
  return gatewayBefore(
    (stream, headers) => {
      if (headers["x-hang"] === undefined) answer(stream, frame);
      else stream.resume();
    },
    { limits },
  );
}

/** How often a limit has refused somebody. */
export async function refused({ metrics }: Pick<Gateway, "metrics">, reason: string): Promise<number> {
  const text = await metrics.registry.metrics();
  return Number(new RegExp(`^pitwall_gateway_refused_total\\{reason="${reason}"\\} (\\d+)$`, "m").exec(text)?.[1] ?? 0);
}

/** A good client's call is answered, now and on a connection of its own. */
export async function isServed(port: number): Promise<void> {
  expect(trailersOf((await call(port, frame)).body)).toBe("grpc-status: 0\r\n");
  await using session = await session2(port);
  expect(trailersOf((await call2(session, frame)).body)).toBe("grpc-status: 0\r\n");
}

/** `localAddress` is the client's own. */
export function raw(port: number, localAddress?: string): RawHttp2 {
  const client = new RawHttp2(port, localAddress);
  onTestFinished(() => client[Symbol.dispose]());
  return client;
}
