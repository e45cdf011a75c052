// A controller whose memory and processor time can be asked for, from outside.
import { connect } from "node:net";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import type { Controller, Installation } from "@pitwall/controller/tests/support/installation.ts";
import { z } from "zod";

/** An agent speaks every 5 s, and no user is held up. */
export const fleetSettings = {
  PITWALL_HEARTBEAT: "5s",
  PITWALL_LEASE: "20s",
  PITWALL_CHANGES_PER_SECOND: "0",
  PITWALL_READS_PER_SECOND: "0",
};

const taken = z.object({
  rssBytes: z.number(),
  heapBytes: z.number(),
  cpuMs: z.number(),
  /** When it was asked, on a clock of its own. */
  atMs: z.number(),
});
type Taken = z.output<typeof taken>;

export interface MeasuredController extends Controller {
  /** After a garbage collection. */
  taken(): Promise<Taken>;
}

/** `restartOf`: listens where that one did. */
export async function startMeasured(
  installation: Installation,
  env: Readonly<Record<string, string>>,
  restartOf?: Pick<Controller, "api" | "link">,
): Promise<MeasuredController> {
  const socket = join(installation.dir, `probe-${performance.now()}`);
  const probe = new URL(`control-probe.ts?socket=${socket}`, import.meta.url).href;
  const controller = await installation.startController({
    NODE_OPTIONS: `--disable-warning=DEP0123 --import=${probe}`,
    ...(restartOf && { PITWALL_LISTEN: restartOf.api, PITWALL_LINK_LISTEN: restartOf.link }),
    ...env,
  });
  return { ...controller, taken: async () => taken.parse(JSON.parse(await text(connect(socket)))) };
}
