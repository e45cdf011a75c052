// The process that attacks. It is told which attack to begin, and answers when that is under way; told to end it, it answers with what it did.
import { z } from "zod";
import type { Attack } from "./hostile-attack.ts";
import {
  continuation,
  headerLists,
  madeYouReset,
  pings,
  rapidReset,
  settings,
  silent,
  slowLoris,
  smallFrames,
  socketPings,
  unread,
} from "./hostile-http.ts";
import { passwords, windowOverruns } from "./hostile-ssh.ts";

const attacks: Readonly<Record<string, (attack: Attack) => Promise<void>>> = {
  ...{ silent, slowLoris, smallFrames, rapidReset, madeYouReset, continuation, headerLists, settings, pings, socketPings, unread },
  ...{ passwords, windowOverruns },
};
const begin = z.object({
  attack: z.string(),
  target: z.object({ port: z.number(), sources: z.array(z.string()), token: z.string(), username: z.string(), key: z.string() }),
});

let current: { readonly stop: AbortController; readonly over: Promise<void>; readonly did: Attack["did"] } | undefined;

async function hear(message: unknown): Promise<void> {
  if (current) {
    const { stop, over, did } = current;
    stop.abort();
    await over;
    current = undefined;
    return void process.send?.(did);
  }
  const { attack: name, target } = begin.parse(message);
  const run = attacks[name];
  if (!run) throw new Error(`there is no attack ${name}`);
  const stop = new AbortController();
  const did = { connections: 0, sent: 0 };
  const begun = Promise.withResolvers<void>();
  const over = run({ ...target, signal: stop.signal, begun: () => begun.resolve(), did });
  current = { stop, over, did };
  await Promise.race([begun.promise, over]);
  process.send?.({});
}

process.on("message", (message) => void hear(message));
