// Sessions in which nothing happens: what each costs the gateway, and whether others log in as ever beside all of them.
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { systemClock } from "@pitwall/runtime";
import ssh2, { type Client, type ClientChannel } from "ssh2";
import { residentKib } from "./processes.ts";
import type { SshWorld } from "./ssh-world.ts";

const sessionsEach = 10; // as many as one connection may have
const atOnce = 10;
/** For the gateway to give back what logins made it hold for a moment. */
const settleMs = 3_000;

export interface IdleSessions {
  /** Of the gateway, per session, its part of a connection to either side included. */
  readonly kibPerSession: number;
  /** What `loginMs` said before, and beside them. */
  readonly aloneMs: number;
  readonly besideMs: number;
}

/** Opens `connections` with ten sessions each, all of which must answer at the end. Throws when one does not. */
export async function idleSessions(world: SshWorld, connections: number, loginMs: () => Promise<number>): Promise<IdleSessions> {
  const privateKey = await readFile(world.door.key, "utf8");
  const clients: Client[] = [];
  try {
    const aloneMs = await loginMs();
    await systemClock.sleep(settleMs);
    const before = await residentKib(world.gatewayPid);
    const sessions: ClientChannel[] = [];
    while (clients.length < connections) {
      const more = await Promise.all(Array.from({ length: atOnce }, () => connected(world, privateKey)));
      clients.push(...more);
      const opened = more.map(async (client) => {
        for (let n = 0; n < sessionsEach; n++) sessions.push(await session(client));
      });
      await Promise.all(opened);
    }
    const besideMs = await loginMs();
    await systemClock.sleep(settleMs);
    const kibPerSession = ((await residentKib(world.gatewayPid)) - before) / sessions.length;
    await Promise.all(sessions.map(echo));
    return { kibPerSession, aloneMs, besideMs };
  } finally {
    for (const client of clients) client.destroy();
  }
}

async function connected({ door: { port, username } }: SshWorld, privateKey: string): Promise<Client> {
  const client = new ssh2.Client();
  client.connect({ host: "127.0.0.1", port, username, privateKey, hostVerifier: () => true });
  await once(client, "ready"); // which throws its error
  client.on("error", () => undefined);
  return client;
}

/** Whose command answers each line: it is there, and says nothing until it is spoken to. */
async function session(client: Client): Promise<ClientChannel> {
  const channel = await new Promise<ClientChannel>((resolve, reject) =>
    client.exec("exec cat", (error, opened) => (error ? reject(error) : resolve(opened))),
  );
  await echo(channel);
  return channel;
}

async function echo(channel: ClientChannel): Promise<void> {
  const said = once(channel, "data");
  channel.write("here\n");
  const [answer] = (await said) as [Buffer]; // no encoding is set
  if (answer.toString() !== "here\n") throw new Error(`a session answers ${JSON.stringify(answer.toString())}`);
}
