// Recordings of sessions for those who look at them: owners of the project. Reading one has an entry in the audit log.
import {
  RecordingState,
  SessionServiceDefinition,
  type DeleteRecordingRequest,
  type Recording,
} from "@pitwall/proto/pitwall/v1/session.ts";
import { isUuid, PitwallError, sleepOrAbort } from "@pitwall/runtime";
import type { Mutations } from "../mutation/mutations.ts";
import type { Principal } from "../projects/principal.ts";
import { reachProject } from "../projects/reach.ts";
import type { EntityManager, Store } from "../store/store.ts";
import { gatewayLost, silenceMs } from "./recording-intake.ts";

const partsAtOnce = 8;
/** How often a live one is looked at, by each who follows it. */
const followMs = 300;
const service = SessionServiceDefinition;

interface Row {
  readonly id: string;
  readonly session_id: string;
  readonly vm_id: string;
  readonly vm_name: string;
  readonly actor: string;
  readonly subject: string;
  readonly ssh_user: string;
  readonly command: string;
  readonly has_terminal: boolean;
  readonly state: string;
  readonly ending: string;
  readonly bytes: string;
  readonly open_time: Date;
  readonly update_time: Date;
}

/** Of a row whose gateway is silent, what will be written into it. */
const columns = `id, session_id, vm_id, vm_name, actor, subject, ssh_user, command, has_terminal, bytes, open_time, update_time,
  case when is_silent then 'cut' else state end as state, case when is_silent then '${gatewayLost}' else ending end as ending`;
const recordings = `(select *, state = 'live' and update_time < now() - interval '${silenceMs} milliseconds' as is_silent from recording) as recording`;

export class RecordingShelf {
  readonly #store: Store;
  readonly #mutations: Mutations;

  constructor({ store, mutations }: { store: Store; mutations: Mutations }) {
    this.#store = store;
    this.#mutations = mutations;
  }

  /** Newest first; `after` is the id of the last one of the page before. */
  async list(
    caller: Principal,
    { project, vm, limit, after }: { project: string; vm: string; limit: number; after: string },
  ): Promise<Recording[]> {
    const em = this.#store.read();
    const { project: row } = await reachProject(em, caller, project, "owner");
    const conditions = [
      ...(vm === "" ? [] : [{ sql: "(vm_id::text = ? or vm_name = ?)", values: [vm, vm] }]),
      ...(after === ""
        ? []
        : [
            {
              sql: "(open_time, id) < (select open_time, id from recording where id::text = ? and project_id = ?)",
              values: [after, row.id],
            },
          ]),
    ];
    const found: Row[] = await em.execute(
      `select ${columns} from ${recordings} where project_id = ? ${conditions.map(({ sql }) => `and ${sql}`).join(" ")}
       order by open_time desc, id desc limit ?`,
      [row.id, ...conditions.flatMap(({ values }) => values), limit],
    );
    return found.map(toWire);
  }

  async get(caller: Principal, project: string, id: string): Promise<Recording> {
    return toWire((await this.#find(this.#store.read(), caller, project, id)).row);
  }

  /**
   * Its bytes, as they are stored; with `follow`, as they come until it ends. Ends with `denied` or `not-found` within seconds of a role that
   * is taken away.
   */
  async *read(
    caller: Principal,
    { project, id, follow }: { project: string; id: string; follow: boolean },
    signal: AbortSignal,
  ): AsyncGenerator<Uint8Array> {
    const { row: first, projectId } = await this.#find(this.#store.read(), caller, project, id);
    const detail = { recording: id, session: first.session_id, name: first.vm_name, follow };
    await this.#mutations.note(caller, "SessionService/ReadRecording", { object: `vm/${first.vm_id}`, projectId, detail });
    for (let part = 0; !signal.aborted;) {
      const em = this.#store.read();
      // Before the parts: what has ended by now has no others than those that are read next.
      const { row } = await this.#find(em, caller, projectId, id);
      const found: { part: number; data: Buffer }[] = await em.execute(
        "select part, data from recording_part where recording_id = ? and part >= ? order by part limit ?",
        [id, part, partsAtOnce],
      );
      for (const { data } of found) yield data;
      part += found.length;
      if (found.length === partsAtOnce) continue;
      if (!follow || row.state !== "live") return;
      await sleepOrAbort(followMs, signal);
    }
  }

  /** Throws `state` while it is live. */
  async delete(caller: Principal, request: DeleteRecordingRequest): Promise<void> {
    await this.#mutations.run({
      service,
      method: service.methods.deleteRecording,
      caller,
      request,
      work: async ({ em, audit }) => {
        const { row, projectId } = await this.#find(em, caller, request.project, request.id);
        if (row.state === "live")
          throw new PitwallError("state", `the recording ${row.id} is still being made: end the session first`, {
            reason: "RECORDING_LIVE",
          });
        await em.execute("delete from recording where id = ?", [row.id]);
        const detail = { recording: row.id, session: row.session_id, name: row.vm_name, of: row.subject };
        await audit({ object: `vm/${row.vm_id}`, projectId, detail });
        return {};
      },
    });
  }

  async #find(em: EntityManager, caller: Principal, project: string, id: string): Promise<{ row: Row; projectId: string }> {
    const { project: owning } = await reachProject(em, caller, project, "owner");
    const sought = isUuid(id) ? id : undefined;
    const [row]: Row[] = sought
      ? await em.execute(`select ${columns} from ${recordings} where id = ? and project_id = ?`, [sought, owning.id])
      : [];
    if (row) return { row, projectId: owning.id };
    throw new PitwallError("not-found", `the project ${owning.name} has no recording ${JSON.stringify(id.slice(0, 80))}`, {
      reason: "RECORDING_NOT_FOUND",
      field: "id",
    });
  }
}

const states: Readonly<Record<string, RecordingState>> = {
  live: RecordingState.RECORDING_STATE_LIVE,
  ended: RecordingState.RECORDING_STATE_ENDED,
  cut: RecordingState.RECORDING_STATE_CUT,
};

function toWire(row: Row): Recording {
  return {
    id: row.id,
    sessionId: row.session_id,
    vmId: row.vm_id,
    vm: row.vm_name,
    actor: row.actor,
    subject: row.subject,
    user: row.ssh_user,
    command: row.command,
    hasTerminal: row.has_terminal,
    state: states[row.state] ?? RecordingState.RECORDING_STATE_UNSPECIFIED,
    end: row.ending,
    sizeBytes: BigInt(row.bytes),
    startTime: new Date(row.open_time),
    endTime: new Date(row.update_time),
  };
}
