// The bytes of one blob from a server that may cut, stall or lie: taken up again where they ended.
import { PitwallError, type Clock } from "@pitwall/runtime";
import { malformed, truncated } from "./image-error.ts";
import type { LayerDescriptor } from "./image.ts";
import { drop, unreachable, type Reply } from "./transport.ts";

/** Asks for the blob from a byte on; 0 is the whole. Throws for every status but 200 and 206. */
export type OpenFrom = (position: number) => Promise<Reply>;

/** In a row, without a byte of progress. */
const maxIdleTries = 4;
const maxConnections = 64;
/** Slower than this for so long, a connection is given up: 60 s of silence end it anyway, one byte a minute would not. */
const windowMs = 30_000;
const minWindowBytes = 64 * 1024;

/** Yields the blob. Throws `unavailable` when no connection gets further, `corrupt` when the server has another size; digests are not its matter. */
export async function* blobStream(
  host: string,
  layer: LayerDescriptor,
  open: OpenFrom,
  clock: Clock,
  signal: AbortSignal,
): AsyncGenerator<Buffer> {
  let position = 0;
  let idle = 0;
  for (let connection = 0; connection < maxConnections && idle < maxIdleTries; connection++) {
    const reply = await open(position);
    const before = position;
    let failure: unknown;
    try {
      for await (const chunk of paced(bodyFrom(reply, position, layer), clock)) {
        position += chunk.length;
        yield chunk;
      }
    } catch (error) {
      signal.throwIfAborted();
      if (error instanceof PitwallError) throw error;
      failure = error;
    } finally {
      drop(reply);
    }
    if (position >= layer.sizeBytes) return;
    idle = position > before ? 0 : idle + 1;
    if (idle === maxIdleTries)
      throw failure === undefined
        ? truncated(`layer ${layer.digest} (${position} of ${layer.sizeBytes} bytes)`)
        : unreachable(host, failure);
  }
  throw unreachable(host, new Error(`${maxConnections} connections were not enough for layer ${layer.digest}`));
}

/** Throws `corrupt` when the answer announces another size than the layer's. */
export function checkAnnounced({ status, headers, body }: Reply, layer: LayerDescriptor): void {
  const announced = Number(headers["content-length"] ?? Number.NaN);
  if (status === 206 || Number.isNaN(announced) || announced === layer.sizeBytes) return;
  drop({ body });
  throw malformed(`layer ${layer.digest} has ${layer.sizeBytes} bytes, and the registry sends ${announced}`);
}

/** The body from `position` on, whatever the server made of the range. */
async function* bodyFrom(reply: Reply, position: number, layer: LayerDescriptor): AsyncGenerator<Buffer> {
  let skip = 0;
  if (reply.status === 206) {
    const start = /^bytes (\d+)-/.exec(String(reply.headers["content-range"]))?.[1];
    if (start !== String(position)) throw malformed(`the registry sends another part of layer ${layer.digest} than it was asked for`);
  } else {
    skip = position;
  }
  // The body has no encoding set.
  for await (const chunk of reply.body as AsyncIterable<Buffer>) {
    const skipped = Math.min(skip, chunk.length);
    skip -= skipped;
    if (chunk.length > skipped) yield chunk.subarray(skipped);
  }
}

/** Fails when too little comes. */
async function* paced(source: AsyncIterable<Buffer>, clock: Clock): AsyncGenerator<Buffer> {
  let since = clock.monotonicMs();
  let bytes = 0;
  for await (const chunk of source) {
    bytes += chunk.length;
    yield chunk;
    const now = clock.monotonicMs();
    if (now - since < windowMs) continue;
    if (bytes < minWindowBytes) throw new Error(`only ${bytes} bytes came in ${Math.round((now - since) / 1000)} s`);
    since = now;
    bytes = 0;
  }
}
