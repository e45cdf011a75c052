// Which ports a stack uses: the usual ones where they are free, and the same again after a restart.
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { freePort, isFreePort, writeFileAtomic } from "@pitwall/runtime";
import { z } from "zod";

const usual = { web: 8080, ssh: 2222, tunnel: 7443, api: 7000, link: 7001, issuer: 9000 } as const;
const stored = z.object({ web: z.number(), ssh: z.number(), tunnel: z.number(), api: z.number(), link: z.number(), issuer: z.number() });
export type Ports = z.output<typeof stored>;

/** Members hold the controller's address and tokens the issuer's, so a port, once chosen, is kept below `stateDir`. */
export async function choosePorts(stateDir: string, prefer: "usual" | "any", busy: (text: string) => void): Promise<Ports> {
  const path = join(stateDir, "ports.json");
  const kept = await readFile(path, "utf8").catch(() => undefined);
  if (kept !== undefined) {
    const ports = stored.parse(JSON.parse(kept));
    for (const [name, port] of Object.entries(ports)) {
      if (!(await isFreePort(port)))
        throw new Error(
          `port ${port}, which this stack has used for its ${name}, is taken: stop what uses it, or start with --fresh or another --state`,
        );
    }
    return ports;
  }
  const chosen = new Map<string, number>();
  for (const [name, port] of Object.entries(usual)) {
    const free = prefer === "usual" && (await isFreePort(port)) ? port : await anyPort(new Set(chosen.values()));
    if (prefer === "usual" && free !== port) busy(`port ${port} is taken; the ${name} uses ${free}`);
    chosen.set(name, free);
  }
  const ports = stored.parse(Object.fromEntries(chosen));
  await writeFileAtomic(path, JSON.stringify(ports));
  return ports;
}

async function anyPort(taken: ReadonlySet<number>): Promise<number> {
  for (;;) {
    const port = await freePort();
    if (!taken.has(port)) return port;
  }
}
