// Clients that mean well, one for each port: what they wait for, on a connection that they keep and on new ones, is what attacks are judged by.
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { request, type IncomingMessage } from "node:http";
import { connect } from "node:http2";
import { setTimeout as sleep } from "node:timers/promises";
import ssh2, { type Client, type ClientChannel } from "ssh2";
import type { SshWorld } from "./ssh-world.ts";

/** Between two things that one does: a client that never rests would be most of the gateway's load. */
const restMs = 2;
/** Of one thing; after that it has failed. */
const limitMs = 20_000;
const movedBytes = 32 * 2 ** 20;
const path = "/bench.Bytes/One";
const message = Buffer.from([0, 0, 0, 0, 2, 8, 1]);

/** Milliseconds of each thing that was done. */
export interface Waits {
  readonly kept: number[];
  readonly fresh: number[];
  /** How many times it was not served. */
  failed: number;
}

/** Disposing it ends its connection. */
export interface GoodClient extends AsyncDisposable {
  /** Works for so long, one thing after the other. */
  work(forMs: number): Promise<Waits>;
  /** Moves as much as ordinary users do now and then. */
  readonly move?: () => Promise<void>;
}

/** Unary gRPC-Web: on HTTP/2 over a kept connection, and on HTTP/1.1 over a new one each time. */
export async function openWebClient(port: number, token: string): Promise<GoodClient> {
  const headers = { "content-type": "application/grpc-web+proto", authorization: `Bearer ${token}` };
  const session = connect(`http://127.0.0.1:${port}`);
  session.on("error", () => undefined);
  await once(session, "connect");
  const call = async (): Promise<void> => {
    const stream = session.request({ ":method": "POST", ":path": path, ...headers });
    stream.end(message);
    isOk(await allOf(stream));
  };
  const callAnew = async (): Promise<void> => {
    const sent = request({ port, host: "127.0.0.1", method: "POST", path, headers, agent: false });
    sent.end(message);
    const [reply] = (await once(sent, "response")) as [IncomingMessage];
    isOk(await allOf(reply));
  };
  return {
    work: (forMs) => work(forMs, call, callAnew, 1),
    [Symbol.asyncDispose]: async () => session.destroy(),
  };
}

/** Through the SSH door: a byte there and back in a session that is kept, and logins. */
export async function openSshClient({ door }: SshWorld): Promise<GoodClient> {
  const privateKey = await readFile(door.key, "utf8");
  const login = async (): Promise<Client> => {
    const client = new ssh2.Client();
    client.on("error", () => undefined);
    const ended = new Promise<never>((_, reject) => client.once("close", () => reject(new Error("the connection has ended"))));
    client.connect({ host: "127.0.0.1", port: door.port, username: door.username, privateKey, hostVerifier: () => true });
    await Promise.race([once(client, "ready"), ended]);
    ended.catch(() => undefined);
    return client;
  };
  const kept = await login();
  const session = await new Promise<ClientChannel>((resolve, reject) =>
    kept.exec("exec cat", (error, opened) => (error ? reject(error) : resolve(opened))),
  );
  const echo = async (): Promise<void> => {
    session.write("x");
    await once(session, "data");
  };
  const loginAnew = async (): Promise<void> => {
    const client = await login();
    client.end();
  };
  await echo();
  return {
    work: (forMs) => work(forMs, echo, loginAnew, 4),
    async move() {
      const channel = await new Promise<ClientChannel>((resolve, reject) =>
        kept.exec("exec cat >/dev/null", (error, opened) => (error ? reject(error) : resolve(opened))),
      );
      const closed = once(channel, "close");
      channel.resume().end(Buffer.alloc(movedBytes));
      await closed;
    },
    [Symbol.asyncDispose]: async () => void kept.destroy(),
  };
}

/** Of what is done on a kept connection so many go to one on a new connection. */
async function work(forMs: number, kept: () => Promise<void>, fresh: () => Promise<void>, keptEach: number): Promise<Waits> {
  const waits: Waits = { kept: [], fresh: [], failed: 0 };
  const take = async (into: number[], one: () => Promise<void>): Promise<void> => {
    const begun = performance.now();
    try {
      await within(one());
      into.push(performance.now() - begun);
    } catch {
      waits.failed++;
    }
    await sleep(restMs);
  };
  for (const until = performance.now() + forMs; performance.now() < until;) {
    for (let at = 0; at < keptEach; at++) await take(waits.kept, kept);
    await take(waits.fresh, fresh);
  }
  return waits;
}

async function within(one: Promise<void>): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => (timer = setTimeout(() => reject(new Error("it takes too long")), limitMs)));
  await Promise.race([one, late]).finally(() => clearTimeout(timer));
}

async function allOf(from: AsyncIterable<unknown>): Promise<Buffer> {
  const pieces: Buffer[] = [];
  for await (const piece of from) pieces.push(piece as Buffer); // no encoding is set
  return Buffer.concat(pieces);
}

function isOk(body: Buffer): void {
  if (!/^grpc-status: ?0\r\n/m.test(body.subarray(message.length + 5).toString("latin1"))) throw new Error("the call has failed");
}
