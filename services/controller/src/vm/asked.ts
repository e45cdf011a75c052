// Who asked for a VM's end, and which of its process's ends that explains: the controller alone knows it, so what a node says of it is nothing.
import type { VmReport } from "@pitwall/proto/pitwall/v1/link.ts";
import { Asked, Desired, Exit, Phase, RestartPolicy, VmSpec } from "@pitwall/proto/pitwall/v1/vm.ts";
import type { AuditOrigin } from "../mutation/audit.ts";
import type { VmRow } from "../store/entities.ts";
import { databaseNowMs, type EntityManager } from "../store/store.ts";

type Asker = Pick<AuditOrigin, "actor" | "subject">;
/** As the API says it; the last three are the system's own. */
export type Why = "STOP" | "PAUSE" | "SUSPEND" | "RESTART" | "DELETE" | "EXPIRED" | "PURGED" | "NODE_DRAIN";

/** Changes the row, whose generation has grown already. */
export async function noteAsked(em: EntityManager, row: VmRow, { actor, subject }: Asker, why: Why): Promise<void> {
  // Of two that ask for an end before it has come, the last one is named; its node may have heard of the first one only.
  const generation = askedIn(row)?.generation ?? row.generation;
  row.asked = Asked.toJSON({ actor, subject, why, time: new Date(await databaseNowMs(em)), generation });
}

export function askedIn({ asked }: Pick<VmRow, "asked">): Asked | undefined {
  return asked === null || asked === undefined ? undefined : Asked.fromJSON(asked);
}

export function exitIn({ serviceExit }: Pick<VmRow, "serviceExit">): Exit | undefined {
  return serviceExit === null || serviceExit === undefined ? undefined : Exit.fromJSON(serviceExit);
}

/** What the row is to hold of these after a report of its current placement. */
export function endsAfter(row: VmRow, report: VmReport): Pick<VmRow, "asked" | "serviceExit"> {
  return { asked: runsAgain(row, report) ? null : row.asked, serviceExit: exitAfter(row, report) };
}

/** That it was to be restarted is no longer why it might end. */
function runsAgain({ desired, generation }: VmRow, report: VmReport): boolean {
  return desired === Desired.DESIRED_RUNNING && report.generation >= generation && booting.has(report.phase);
}

const booting: ReadonlySet<Phase> = new Set([Phase.PHASE_BOOTING, Phase.PHASE_RUNNING]);
/** In which a process ends because its VM does. */
const ending: ReadonlySet<Phase> = new Set([Phase.PHASE_STOPPING, Phase.PHASE_STOPPED, Phase.PHASE_DELETING]);

function exitAfter(row: VmRow, { serviceExit: said, generation, phase }: VmReport): unknown {
  if (!said) return null;
  const { code, signal, outOfMemory } = said;
  const exit: Exit = { code, signal, outOfMemory };
  const known = exitIn(row);
  const asked = askedIn(row);
  const isKnown = known?.code === code && known.signal === signal && known.outOfMemory === outOfMemory;
  // A process that is started again after such an end has had another one by the time that its VM ends.
  const isAnother = !isKnown || (known.asked === undefined && ending.has(phase) && startsAgain(row, exit));
  if (!isAnother) return Exit.toJSON({ ...exit, asked: known.asked });
  return Exit.toJSON({ ...exit, asked: asked && ends(asked) && generation >= asked.generation ? asked : undefined });
}

/** Nobody's process ends because its VM is to stand still. */
function ends({ why }: Asked): boolean {
  return why !== "PAUSE" && why !== "SUSPEND";
}

function startsAgain({ spec }: VmRow, { code, signal }: Exit): boolean {
  const { restartPolicy } = VmSpec.fromJSON(spec);
  if (restartPolicy === RestartPolicy.RESTART_POLICY_ALWAYS) return true;
  return restartPolicy === RestartPolicy.RESTART_POLICY_ON_FAILURE && (code !== 0 || signal !== 0);
}
