// Those who try without pause what must always fail, and what must never lead back: a revoked token, a forged one, none; and the way into
// VMs by their names.
import { readdirSync, readFileSync } from "node:fs";
import { sleepOrAbort } from "@pitwall/runtime";
import { z } from "zod";
import type { Clients } from "./clients.ts";
import { clientName, type Installation } from "./installation.ts";
import type { Intrusion, Reached, Taken } from "./judges.ts";
import { fillerName } from "./postgres.ts";

/** Times the pace: on a busy machine the system needs the time. */
const reachEveryMs = 100;
const reachLimitMs = 3_000;
const maxReaching = 4;
const intrudeEveryMs = 150;
const knockLimitMs = 4_000;
const measureEveryMs = 1_000;
const pageBytes = 4_096;

const identity = z.object({ vm: z.string(), epoch: z.coerce.number() });

/** Takes the way into VMs by their names, in turn, until the signal aborts. */
export async function reachAlways(installation: Installation, clients: Clients, originMs: number, signal: AbortSignal): Promise<Reached[]> {
  const reached: Reached[] = [];
  const underWay = new Set<Promise<void>>();
  for (let turn = 0; !signal.aborted; turn++) {
    const { names } = clients;
    const name = names[turn % Math.max(1, names.length)];
    if (name !== undefined && underWay.size < maxReaching) {
      const fromMs = Date.now() - originMs;
      const reaching = reach(installation, name)
        .then((found) => void reached.push({ ...found, fromMs, toMs: Date.now() - originMs }))
        .catch(() => undefined) // it is not running, or not to be reached right now: I3 is about what is reached
        .finally(() => underWay.delete(reaching));
      underWay.add(reaching);
    }
    await sleepOrAbort(reachEveryMs * installation.pace, signal);
  }
  await Promise.all(underWay);
  return reached;
}

/** Which placement of a VM answers now. */
export async function reach(installation: Installation, name: string): Promise<{ vm: string; epoch: number }> {
  const response = await fetch(`${installation.endpoint()}/vm/${name}/80/`, {
    headers: { authorization: `Bearer ${await installation.token(clientName)}` },
    signal: AbortSignal.timeout(reachLimitMs),
  });
  if (!response.ok) throw new Error(`${name} cannot be reached: ${await response.text()}`);
  return identity.parse(await response.json());
}

/** Who they are, and what they show at the door. */
type Intruder = readonly [who: string, token: string | undefined];

/** One whose token was let in once and is revoked by now, one with a forged token, and one without. */
export async function findIntruders(installation: Installation): Promise<Intruder[]> {
  const { projects } = installation.client();
  const { token, secret } = await projects.createToken({ description: "to be revoked" });
  if ((await knock(installation, secret)) !== true) throw new Error("an API token that is valid was not let in");
  await projects.revokeToken("", token?.id ?? "");
  const [header, claims] = (await installation.token(clientName)).split(".");
  const forged = `${header}.${claims}.${Buffer.from("no signature").toString("base64url")}`;
  return [
    ["a revoked token", secret],
    ["a forged token", forged],
    ["nobody", undefined],
  ];
}

/** They try to get in, in turn, until the signal aborts. */
export async function intrudeAlways(
  installation: Installation,
  intruders: readonly Intruder[],
  originMs: number,
  signal: AbortSignal,
): Promise<Intrusion[]> {
  const intrusions: Intrusion[] = [];
  for (let turn = 0; !signal.aborted; turn++) {
    const [who, token] = intruders[turn % intruders.length] ?? ["nobody", undefined];
    const atMs = Date.now() - originMs;
    const wasLetIn = await knock(installation, token);
    if (wasLetIn !== undefined) intrusions.push({ who, atMs, wasLetIn });
    await sleepOrAbort(intrudeEveryMs * installation.pace, signal);
  }
  return intrusions;
}

/** Lists VMs with a bearer token; whether that was answered with a list. Undefined: nobody answered. */
async function knock(installation: Installation, token: string | undefined): Promise<boolean | undefined> {
  const response = await fetch(`${installation.endpoint()}/pitwall.v1.VmService/ListVms`, {
    method: "POST",
    headers: {
      "content-type": "application/grpc-web+proto",
      ...(token !== undefined && { authorization: `Bearer ${token}` }),
    },
    body: new Uint8Array(5), // an empty message in its frame
    signal: AbortSignal.timeout(knockLimitMs),
  }).catch(() => undefined);
  const said = response && (await response.text().catch(() => undefined));
  if (!response || said === undefined) return undefined;
  const status = response.headers.get("grpc-status") ?? /grpc-status: ?(\d+)/i.exec(said)?.[1];
  return response.ok && (status === undefined || status === "0");
}

/** What services take, and the most connections that the database had, until the signal aborts. */
export async function measureAlways(
  { services, database }: Installation,
  signal: AbortSignal,
): Promise<{ taken: Taken[]; connections: number }> {
  const taken: Taken[] = [];
  let connections = 0;
  while (!signal.aborted) {
    for (const { name, pid } of services) {
      const one = pid === undefined ? undefined : takenBy(pid);
      if (one) taken.push({ name, ...one });
    }
    const [row] = await database.query<{ count: number }>(
      "select count(*)::int as count from pg_stat_activity where client_addr is not null and application_name <> $1 and pid <> pg_backend_pid()",
      [fillerName],
    );
    connections = Math.max(connections, row?.count ?? 0);
    await sleepOrAbort(measureEveryMs, signal);
  }
  return { taken, connections };
}

function takenBy(pid: number): { files: number; rssBytes: number } | undefined {
  try {
    const files = readdirSync(`/proc/${pid}/fd`).length;
    return { files, rssBytes: Number(readFileSync(`/proc/${pid}/statm`, "latin1").split(" ")[1]) * pageBytes };
  } catch {
    return undefined; // it has just gone
  }
}
