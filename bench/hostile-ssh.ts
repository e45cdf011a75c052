// Attacks on the SSH port: one connection that guesses passwords, and users that send more than their channels were granted.
import { readFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import ssh2, { type Client, type ClientChannel } from "ssh2";
import { again, type Attack } from "./hostile-attack.ts";

const passwordsOnOne = 226;
const atOnce = 4;
/** A source that is refused tries again after so long. */
const restMs = 5;
/** More than any window, in packets. */
const packets = 2_048;
const packetBytes = 32_000;

/** A connection that has ended, however. */
async function over(client: Client): Promise<void> {
  await new Promise<void>((resolve) => client.once("close", () => resolve()));
}

/** 226 of them on one connection, while it lasts. */
export async function passwords(attack: Attack): Promise<void> {
  const { port, username, did } = attack;
  await again(attack, atOnce, async (localAddress) => {
    const client = new ssh2.Client();
    client.on("error", () => undefined);
    const ended = over(client);
    let tries = 0;
    client.connect({
      ...{ host: "127.0.0.1", port, localAddress, username, hostVerifier: () => true },
      authHandler: (_left, _partial, next) => {
        if (++tries > passwordsOnOne) return void client.end();
        did.sent++;
        next({ type: "password", username, password: `guess ${tries}` });
      },
    });
    await ended;
    await sleep(restMs);
  });
}

/** Logs in, and writes to a command that reads nothing, whatever the window says. */
export async function windowOverruns(attack: Attack): Promise<void> {
  const { port, username, did, signal } = attack;
  const privateKey = await readFile(attack.key, "utf8");
  await again(attack, atOnce, async (localAddress) => {
    const client = new ssh2.Client();
    client.on("error", () => undefined);
    let isOver = false;
    const ended = over(client).then(() => (isOver = true));
    client.connect({ host: "127.0.0.1", port, localAddress, username, privateKey, hostVerifier: () => true });
    const ready = new Promise<void>((resolve) => client.once("ready", () => resolve()));
    await Promise.race([ready, ended]);
    const channel = isOver ? undefined : await Promise.race([unread(client), ended.then(() => undefined)]);
    if (channel) {
      const { id } = Reflect.get(channel, "outgoing") as { id: number }; // fields of the library's own, as in the gateway's tests
      const protocol = Reflect.get(client, "_protocol") as { channelData(id: number, data: Buffer): void };
      for (let packet = 0; packet < packets && !isOver && !signal.aborted; packet++) {
        protocol.channelData(id, Buffer.alloc(packetBytes));
        did.sent++;
        if (packet % 8 === 7) await sleep(1);
      }
    }
    client.destroy();
    await ended;
    await sleep(restMs);
  });
}

async function unread(client: Client): Promise<ClientChannel | undefined> {
  return new Promise((resolve) => client.exec("exec sleep 5", (error, channel) => resolve(error ? undefined : channel)));
}
