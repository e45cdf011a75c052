// `npm run bench -- gateway`: the web port beside nginx, grpcwebproxy and Envoy, each on one core before the same backend.
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { z } from "zod";
import { startChild, type Child } from "./control-child.ts";
import { grpc, medianMs, openTicking, perSecond, webOnHttp1, webOnHttp2, type Kind } from "./gateway-load.ts";
import { openIssuer, type Issuer } from "./gateway-issuer.ts";
import { providePeers, startBackend, startEnvoy, startGrpcwebproxy, startNginx, type Proxy } from "./gateway-peers.ts";
import { median, percentile, round, type BenchOptions, type Metric } from "./measure.ts";

const proxyCore = 0;
const otherCore = 1;
const messageBytes = 100;
const streams = 1_000;
const goals = { nginx: 1, added: 1.5, streamKb: 24, late: 2, grpcwebproxy: 1.5, envoy: 0.6 };

export async function gateway({ quick, say }: BenchOptions): Promise<Readonly<Record<string, Metric>>> {
  const [rounds, requests, serial] = quick ? [2, 15_000, 1_000] : [5, 40_000, 4_000];
  await using stack = new AsyncDisposableStack();
  const peers = await providePeers(say);
  const dir = await mkdtemp(join(tmpdir(), "pitwall-bench-gateway-"));
  stack.defer(() => rm(dir, { recursive: true, force: true }));
  const issuer = stack.use(await openIssuer());
  const body = join(dir, "body");
  const frame = Buffer.alloc(5 + messageBytes);
  frame.writeUInt32BE(messageBytes, 1);
  await writeFile(body, frame);
  const backend = stack.use(await startBackend(otherCore, peers.backend));
  const { child, port } = await startGateway(stack, backend.port, issuer);
  const { audience, jwks, token, url } = issuer;
  const proxies = {
    nginx: stack.use(await startNginx(proxyCore, backend.port, dir)),
    grpcwebproxy: stack.use(await startGrpcwebproxy(proxyCore, peers.grpcwebproxy, backend.port, dir)),
    envoy: stack.use(await startEnvoy(proxyCore, peers.envoy, backend.port, dir, { issuer: url, audience, jwks })),
  };
  const load = (target: number, kind: Kind): Parameters<typeof perSecond>[0] => ({ port: target, kind, token, body, core: otherCore });

  /** Requests a second of the gateway by those of a peer, in turn; and what one costs each in CPU time, which a busy machine does not change. */
  async function beside(name: string, kind: Kind, peer: Proxy, goal: number): Promise<Metric> {
    const measured = async (target: number, cpuMs: () => Promise<number>): Promise<{ rate: number; cpuUs: number }> => {
      const before = await cpuMs();
      const rate = await perSecond(load(target, kind), requests);
      return { rate, cpuUs: (((await cpuMs()) - before) * 1000) / requests };
    };
    for (const target of [port, peer.port]) await perSecond(load(target, kind), Math.ceil(requests / 4)); // warm
    const all: { ours: Awaited<ReturnType<typeof measured>>; theirs: Awaited<ReturnType<typeof measured>> }[] = [];
    for (let at = 0; at < rounds; at++)
      all.push({
        ours: await measured(port, async () => (await usageOf(child, false)).cpuMs),
        theirs: await measured(peer.port, peer.cpuMs),
      });
    const value = round(median(all.map(({ ours, theirs }) => ours.rate / theirs.rate)));
    const [pitwall, other] = [median(all.map(({ ours }) => ours.rate)), median(all.map(({ theirs }) => theirs.rate))];
    const [cpu, otherCpu] = [median(all.map(({ ours }) => ours.cpuUs)), median(all.map(({ theirs }) => theirs.cpuUs))];
    say(`${name}: ${Math.round(pitwall)} against ${Math.round(other)} requests/s; CPU ${round(cpu)} against ${round(otherCpu)} µs each`);
    const raw = { pitwall: round(pitwall), [name]: round(other), pitwall_cpu_us: round(cpu), [`${name}_cpu_us`]: round(otherCpu) };
    return { value, unit: "×", goal, ok: value >= goal, n: rounds, raw };
  }

  const added = async (): Promise<Metric> => {
    const times: Record<"direct" | "pitwall" | "nginx", number[]> = { direct: [], pitwall: [], nginx: [] };
    for (let at = 0; at < rounds; at++)
      for (const [who, target] of [
        ["direct", backend.port],
        ["pitwall", port],
        ["nginx", proxies.nginx.port],
      ] as const)
        times[who].push(await medianMs(load(target, grpc), serial, join(dir, `${who}-${at}.log`)));
    const [direct, pitwall, nginx] = [median(times.direct), median(times.pitwall), median(times.nginx)];
    const value = round((pitwall - direct) / (nginx - direct));
    say(`one at a time: direct ${round(direct)} ms, through Pitwall ${round(pitwall)} ms, through nginx ${round(nginx)} ms`);
    const raw = { direct_ms: round(direct), pitwall_ms: round(pitwall), nginx_ms: round(nginx) };
    return { value, unit: "×", goal: goals.added, ok: value <= goals.added, n: rounds * serial, raw };
  };

  return {
    vs_nginx: await beside("nginx", grpc, proxies.nginx, goals.nginx),
    added_p50_vs_nginx: await added(),
    vs_grpcwebproxy: await beside("grpcwebproxy", webOnHttp1, proxies.grpcwebproxy, goals.grpcwebproxy),
    vs_envoy: await beside("envoy", webOnHttp2, proxies.envoy, goals.envoy),
    ...(await streaming(child, port, backend.port, token, quick ? 3_000 : 10_000)),
  };
}

async function startGateway(stack: AsyncDisposableStack, backend: number, issuer: Issuer): Promise<{ child: Child; port: number }> {
  const child = stack.use(startChild("gateway-child.ts", proxyCore));
  const { port } = z
    .object({ port: z.number() })
    .parse(await child.ask({ backend, issuer: issuer.url, audience: issuer.audience, callsPerConnection: streams }));
  return { child, port };
}

/** After a garbage collection, when that is asked for. */
async function usageOf(child: Child, isCollected: boolean): Promise<{ rssBytes: number; cpuMs: number }> {
  return z.object({ rssBytes: z.number(), cpuMs: z.number() }).parse(await child.ask({ isCollected }));
}

/** Memory that 1,000 streams take, and how late their messages are, against the same without a proxy. */
async function streaming(child: Child, port: number, backend: number, token: string, forMs: number): Promise<Record<string, Metric>> {
  const rss = async (): Promise<number> => (await usageOf(child, true)).rssBytes;
  const late: Record<"direct" | "through", number> = { direct: 0, through: 0 };
  {
    await using ticking = await openTicking(backend, streams, token);
    late.direct = percentile(await ticking.delays(forMs), 0.99);
  }
  const before = await rss();
  await using ticking = await openTicking(port, streams, token);
  late.through = percentile(await ticking.delays(forMs), 0.99);
  const kb = round(((await rss()) - before) / streams / 1000);
  const ratio = round(late.through / late.direct);
  return {
    stream_kb: { value: kb, unit: "kB", goal: goals.streamKb, ok: kb <= goals.streamKb, n: streams },
    late_vs_direct: {
      ...{ value: ratio, unit: "×", goal: goals.late, ok: ratio <= goals.late, n: streams },
      raw: { direct_p99_ms: round(late.direct), through_p99_ms: round(late.through) },
    },
  };
}
