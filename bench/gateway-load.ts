// Load on a proxy: requests by h2load, which says how many were answered and how long each took, and streams by Node's own client.
import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import { connect, type ClientHttp2Session, type ClientHttp2Stream } from "node:http2";
import { promisify } from "node:util";
import { percentile } from "./measure.ts";

const run = promisify(execFile);
const streamsPerConnection = 125;

export interface Kind {
  readonly contentType: string;
  /** Else HTTP/2 with prior knowledge. */
  readonly isHttp1: boolean;
}

export const grpc: Kind = { contentType: "application/grpc", isHttp1: false };
export const webOnHttp2: Kind = { contentType: "application/grpc-web+proto", isHttp1: false };
export const webOnHttp1: Kind = { contentType: "application/grpc-web+proto", isHttp1: true };

interface Load {
  readonly port: number;
  readonly kind: Kind;
  readonly token: string;
  /** A file with one message, framed. */
  readonly body: string;
  readonly core: number;
}

function h2load({ port, kind, token, body, core }: Load, flags: readonly string[]): [string, string[]] {
  const headers = [`content-type: ${kind.contentType}`, `authorization: Bearer ${token}`, ...(kind.isHttp1 ? [] : ["te: trailers"])];
  const fixed = [
    "-c",
    String(core),
    "h2load",
    "-t1",
    "-d",
    body,
    ...(kind.isHttp1 ? ["--h1"] : []),
    ...headers.flatMap((header) => ["-H", header]),
  ];
  return ["taskset", [...fixed, ...flags, `http://127.0.0.1:${port}/bench.Bytes/One`]];
}

/** Answers a second, with 128 requests in flight. Throws unless all were answered well. */
export async function perSecond(load: Load, requests: number): Promise<number> {
  const flight = load.kind.isHttp1 ? ["-c64", "-m1"] : ["-c8", "-m16"];
  const { stdout } = await run(...h2load(load, [...flight, `-n${requests}`]));
  const [, rate] = /finished in .*?, ([\d.]+) req\/s/.exec(stdout) ?? [];
  if (!new RegExp(`status codes: ${requests} 2xx`).test(stdout)) throw new Error(`not all was answered: ${stdout}`);
  return Number(rate);
}

/** The median of one request after the other, in milliseconds. */
export async function medianMs(load: Load, requests: number, logFile: string): Promise<number> {
  await run(...h2load(load, ["-c1", "-m1", `-n${requests}`, `--log-file=${logFile}`]));
  const times = (await readFile(logFile, "utf8"))
    .trim()
    .split("\n")
    .map((line) => Number(line.split("\t")[2]));
  return percentile(times.slice(Math.floor(times.length / 10)), 0.5) / 1000;
}

/** Streams that a server ticks on; disposing it ends them. */
export interface Ticking extends AsyncDisposable {
  /** Of the messages of the next so many milliseconds, how late each came. */
  delays(forMs: number): Promise<number[]>;
}

/** Resolves when each has begun. */
export async function openTicking(port: number, count: number, token: string): Promise<Ticking> {
  const sessions: ClientHttp2Session[] = [];
  let delays: number[] = [];
  const begun: Promise<unknown>[] = [];
  for (let at = 0; at < count; at++) {
    if (at % streamsPerConnection === 0) sessions.push(connect(`http://127.0.0.1:${port}`));
    const session = sessions.at(-1);
    if (!session) throw new Error("there is no session");
    const stream = session.request({
      ":method": "POST",
      ":path": "/bench.Bytes/Tick",
      "content-type": "application/grpc",
      te: "trailers",
      authorization: `Bearer ${token}`,
    });
    stream.end(Buffer.alloc(5));
    begun.push(firstOf(stream, (late) => delays.push(late)));
    if (at % 50 === 49) await Promise.all(begun.splice(0));
  }
  await Promise.all(begun);
  return {
    async delays(forMs) {
      delays = [];
      await new Promise((resolve) => setTimeout(resolve, forMs));
      return delays;
    },
    async [Symbol.asyncDispose]() {
      for (const session of sessions) session.destroy();
    },
  };
}

/** Resolves with its first message; gives how late each is. */
async function firstOf(stream: ClientHttp2Stream, late: (ms: number) => void): Promise<void> {
  const messageBytes = 13;
  await new Promise<void>((resolve, reject) => {
    stream.once("error", reject);
    stream.on("data", (chunk: Buffer) => {
      const now = performance.timeOrigin + performance.now();
      for (let at = 0; at + messageBytes <= chunk.length; at += messageBytes) late(now - Number(chunk.readBigUInt64BE(at + 5)) / 1000);
      resolve();
    });
  });
}
