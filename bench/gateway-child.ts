// The gateway under measurement, in a process of its own: its web port in front of a gRPC server, with tokens verified as in an installation.
import { openVerifier } from "@pitwall/auth";
import { openDoor } from "@pitwall/gateway/src/web/door.ts";
import { defaultLimits, type WebLimits } from "@pitwall/gateway/src/web/limits.ts";
import { networks } from "@pitwall/gateway/src/source.ts";
import { openLoneUpstream } from "@pitwall/gateway/src/web/lone-upstream.ts";
import { openWebServer } from "@pitwall/gateway/src/web/server.ts";
import { GatewayMetrics } from "@pitwall/gateway/src/metrics.ts";
import { openLog } from "@pitwall/runtime";
import { z } from "zod";

const setup = z.object({
  backend: z.number(),
  issuer: z.string(),
  audience: z.string(),
  callsPerConnection: z.number().default(defaultLimits.callsPerConnection),
});
const order = z.object({ isCollected: z.boolean() });

process.once("message", (first) => {
  const { backend, issuer, audience, callsPerConnection } = setup.parse(first);
  const limits = { ...defaultLimits, callsPerConnection, penaltyExempt: networks(["127.0.0.1"]) };
  void listen(backend, openDoor(openVerifier({ issuer, audience })), limits);
  process.on("message", (message) => {
    if (order.parse(message).isCollected) globalThis.gc?.({ type: "major", execution: "sync", flavor: "last-resort" });
    const { user, system } = process.cpuUsage();
    process.send?.({ rssBytes: process.memoryUsage.rss(), cpuMs: (user + system) / 1000 });
  });
});

async function listen(backend: number, door: ReturnType<typeof openDoor>, limits: WebLimits): Promise<void> {
  const log = openLog("gateway", "warn");
  const lone = openLoneUpstream({ host: "127.0.0.1", port: backend }, log);
  const web = await openWebServer(
    { host: "127.0.0.1", port: 0 },
    {
      async open(path, headers) {
        await door(headers["authorization"]?.toString());
        return lone.open(path, headers);
      },
      corsOrigins: [],
      limits,
      metrics: new GatewayMetrics(),
      log,
    },
  );
  process.send?.({ port: web.port });
}
