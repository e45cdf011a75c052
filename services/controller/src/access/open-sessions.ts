// Ways into VMs that are open: a row for each, from the entry of its begin in the audit log to the entry of its end.
//
// A gateway tells the end, again and again until it is answered. What a gateway had open when it was killed ends when it starts again.
import type { EndedSession, EndSessionsRequest } from "@pitwall/proto/pitwall/v1/access.ts";
import { checkUuid, fromDuration, invalid, PitwallError } from "@pitwall/runtime";
import { writeAudit } from "../mutation/audit.ts";
import type { EntityManager, Store } from "../store/store.ts";
import { cutRecordings } from "./recording-intake.ts";

const maxAtOnce = 1_000;
const lostWith = "the gateway ended";

export interface OpenedSession {
  /** Empty: its end will not be told. */
  readonly id: string;
  readonly gatewayId: string;
  readonly vmId: string;
  readonly projectId: string;
  readonly actor: string;
  readonly subject: string;
  /** For both entries. */
  readonly detail: Readonly<Record<string, unknown>>;
}

interface Row {
  readonly vm_id: string;
  readonly project_id: string;
  readonly actor: string;
  readonly subject: string;
  readonly detail: Readonly<Record<string, unknown>>;
}

/** Throws `invalid` for what is no id. */
export function checkSessionId(id: string): void {
  if (id !== "") checkUuid(id, "session_id");
}

export class OpenSessions {
  readonly #store: Store;

  constructor(store: Store) {
    this.#store = store;
  }

  /** Before the way in is open: without an entry there is none. A gateway that asks again has one. Throws `exists` for another's id. */
  async begin({ id, gatewayId, vmId, projectId, actor, subject, detail }: OpenedSession): Promise<void> {
    const whole = id === "" ? detail : { ...detail, session: id };
    await this.#store.change(async (em) => {
      if (id !== "" && !(await isNew(em))) return;
      const origin = { actor, subject, action: "AccessService/OpenTunnel", requestId: "" };
      await writeAudit(em, origin, { object: `vm/${vmId}`, projectId, detail: whole });
    });

    async function isNew(em: EntityManager): Promise<boolean> {
      const made: unknown[] = await em.execute(
        `insert into access_session (id, gateway_id, vm_id, project_id, actor, subject, detail) values (?, ?, ?, ?, ?, ?, ?::jsonb)
         on conflict do nothing returning 1`,
        [id, gatewayId, vmId, projectId, actor, subject, JSON.stringify(whole)],
      );
      if (made.length > 0) return true;
      const own: unknown[] = await em.execute(
        "select 1 from access_session where id = ? and gateway_id = ? and vm_id = ? and actor = ? and subject = ?",
        [id, gatewayId, vmId, actor, subject],
      );
      if (own.length > 0) return false;
      throw new PitwallError("exists", "session_id: is another session's", { reason: "SESSION_ID_TAKEN", field: "session_id" });
    }
  }

  /** Those of this gateway that somebody has ended. */
  async ending(gatewayId: string): Promise<string[]> {
    const rows: { id: string }[] = await this.#store
      .read()
      .execute("select id from access_session where gateway_id = ? and ending", [gatewayId]);
    return rows.map(({ id }) => id);
  }

  async end(gatewayId: string, { ended, started }: EndSessionsRequest): Promise<void> {
    if (ended.length > maxAtOnce) throw invalid("ended", `holds ${ended.length} sessions; the limit is ${maxAtOnce}`);
    for (const { sessionId } of ended) checkUuid(sessionId, "ended.session_id");
    await this.#store.change(async (em) => {
      for (const one of ended) {
        const [row]: Row[] = await em.execute(
          "delete from access_session where id = ? and gateway_id = ? returning vm_id, project_id, actor, subject, detail",
          [one.sessionId, gatewayId],
        );
        if (row) await writeEnd(em, row, figures(one));
        if (row && one.lost) await cutRecordings(em, gatewayId, lostWith, one.sessionId);
      }
      if (!started) return;
      const lost: Row[] = await em.execute(
        "delete from access_session where gateway_id = ? returning vm_id, project_id, actor, subject, detail",
        [gatewayId],
      );
      for (const row of lost) await writeEnd(em, row, { lost: lostWith });
      await cutRecordings(em, gatewayId, lostWith);
    });
  }
}

/** As the gateway counted. */
function figures({ toVmBytes, fromVmBytes, duration, lost }: EndedSession): Record<string, unknown> {
  if (lost) return { lost: lostWith };
  const seconds = duration ? Math.round(fromDuration(duration)) / 1_000 : 0;
  return { toVmBytes: Number(toVmBytes), fromVmBytes: Number(fromVmBytes), seconds };
}

async function writeEnd(em: EntityManager, row: Row, how: Readonly<Record<string, unknown>>): Promise<void> {
  const { vm_id: vmId, project_id: projectId, actor, subject, detail } = row;
  const origin = { actor, subject, action: "AccessService/EndSessions", requestId: "" };
  await writeAudit(em, origin, { object: `vm/${vmId}`, projectId, detail: { ...detail, ...how } });
}
