// A web port in front of an upstream that does what a test says.
import type { ServerHttp2Stream } from "node:http2";
import { silentLog, type Log } from "@pitwall/runtime";
import { onTestFinished } from "vitest";
import { GatewayMetrics } from "../../src/metrics.ts";
import type { CertificateFiles } from "../../src/web/certificate.ts";
import { defaultLimits, type WebLimits } from "../../src/web/limits.ts";
import { openLoneUpstream } from "../../src/web/lone-upstream.ts";
import { openWebServer } from "../../src/web/server.ts";
import { openUpstream, type Upstream } from "./upstream.ts";

/** A message of two bytes. */
export const frame = Buffer.from([0, 0, 0, 0, 2, 8, 1]);
export const answered = { ":status": 200, "content-type": "application/grpc+proto" };
export const text = { "content-type": "application/grpc-web-text+proto" };

/** The port of a gateway before an upstream that serves each call so. */
export async function gatewayBefore(
  serve: Parameters<typeof openUpstream>[0],
  {
    settings = {},
    tls,
    limits = {},
    log = silentLog,
    takesAnyMetadata = false,
  }: { settings?: object; tls?: CertificateFiles; limits?: Partial<WebLimits>; log?: Log; takesAnyMetadata?: boolean } = {},
): Promise<{ port: number; upstream: Upstream; metrics: GatewayMetrics }> {
  const upstream = await openUpstream(serve, settings);
  onTestFinished(() => upstream[Symbol.asyncDispose]());
  const lone = openLoneUpstream({ host: "127.0.0.1", port: upstream.port }, silentLog);
  onTestFinished(() => lone[Symbol.dispose]());
  const corsOrigins = ["https://console.example.com"];
  const metrics = new GatewayMetrics();
  const web = await openWebServer(
    { host: "127.0.0.1", port: 0 },
    { open: lone.open, corsOrigins, takesAnyMetadata, tls, limits: { ...defaultLimits, ...limits }, metrics, log },
  );
  onTestFinished(() => web[Symbol.asyncDispose]());
  return { port: web.port, upstream, metrics };
}

/** Answers with these messages and an OK once the request has ended. */
export function answer(stream: ServerHttp2Stream, body: Buffer, trailers = {}, headers = {}): void {
  stream.resume().once("end", () => {
    if (stream.destroyed) return; // its connection has ended meanwhile
    stream.respond({ ...answered, ...headers }, { waitForTrailers: true });
    stream.once("wantTrailers", () => stream.sendTrailers({ "grpc-status": "0", ...trailers }));
    stream.end(body);
  });
}
