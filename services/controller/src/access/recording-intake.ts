// Recordings of sessions, as gateways make them: begun before the session is, added to part by part, closed with it.
//
// States of a row: live -> ended (the gateway said so) or cut (it was lost). Only the gateway that began it may add to it. One that is silent
// for longer than a gateway ever is counts as cut at once for whoever reads it (`stateOf`), and becomes so when house is kept.
import type { AppendRecordingRequest, CloseRecordingRequest, OpenRecordingRequest } from "@pitwall/proto/pitwall/v1/access.ts";
import { checkUuid, invalid, PitwallError } from "@pitwall/runtime";
import type { EntityManager, Store } from "../store/store.ts";

const maxPartBytes = 512 * 1024;
const maxCommandLength = 32_768;
const maxEndLength = 500;
/** A gateway says every ten seconds that a recording goes on. */
export const silenceMs = 60_000;
/** What a recording takes beside its parts: many empty ones fill a project, too. */
const rowBytes = 1_024;
export const gatewayLost = "the gateway was lost";

export interface RecordingIntakeParts {
  readonly store: Store;
  /** The most that one recording may hold. */
  readonly recordingBytes: number;
  /** The most that those of a project may hold together, looked at when one begins. */
  readonly projectBytes: number;
}

export class RecordingIntake {
  readonly #parts: RecordingIntakeParts;

  constructor(parts: RecordingIntakeParts) {
    this.#parts = parts;
  }

  /** Who it is of, and of which VM, the row of the session says. Throws `not-found` without one of this gateway's, `exhausted` without room. */
  async open(gatewayId: string, { recordingId, sessionId, command, hasTerminal }: OpenRecordingRequest): Promise<void> {
    checkUuid(recordingId, "recording_id");
    checkUuid(sessionId, "session_id");
    if (command.length > maxCommandLength) throw invalid("command", `must be at most ${maxCommandLength} characters`);
    const { store, projectBytes } = this.#parts;
    await store.change(async (em) => {
      const [room]: { taken: string }[] = await em.execute(
        `select coalesce(sum(recording.bytes + ${rowBytes}), 0) as taken from access_session
         left join recording on recording.project_id = access_session.project_id
         where access_session.id = ? and access_session.gateway_id = ? group by access_session.id`,
        [sessionId, gatewayId],
      );
      if (!room) throw new PitwallError("not-found", "there is no such session of this gateway's", { reason: "SESSION_NOT_FOUND" });
      if (BigInt(room.taken) >= BigInt(projectBytes)) throw noRoom();
      const made: unknown[] = await em.execute(
        `insert into recording (id, session_id, gateway_id, project_id, vm_id, vm_name, actor, subject, ssh_user, command, has_terminal)
         select ?::uuid, id, gateway_id, project_id, vm_id, detail->>'name', actor, subject, coalesce(detail->>'user', ''), ?::text, ?::boolean
         from access_session where id = ? and gateway_id = ? on conflict do nothing returning 1`,
        [recordingId, command, hasTerminal, sessionId, gatewayId],
      );
      if (made.length > 0) return;
      const own: unknown[] = await em.execute("select 1 from recording where id = ? and session_id = ? and gateway_id = ?", [
        recordingId,
        sessionId,
        gatewayId,
      ]);
      if (own.length === 0) throw new PitwallError("exists", "recording_id: is another recording's", { reason: "RECORDING_ID_TAKEN" });
    });
  }

  /** Throws `exhausted` when it is as long as one may be, `state` and `not-found` when there is none to add to. */
  async append(gatewayId: string, { recordingId, part, data }: AppendRecordingRequest): Promise<void> {
    checkUuid(recordingId, "recording_id");
    if (data.length > maxPartBytes) throw invalid("data", `holds ${data.length} bytes; the limit is ${maxPartBytes}`);
    const { store, recordingBytes } = this.#parts;
    // One statement: its row is locked by the update, so that parts of one recording come one after the other.
    const added = await store.write<{ id: string }>(
      `with own as (
         update recording set update_time = now(), bytes = bytes + ?, parts = parts + ?
         where id = ? and gateway_id = ? and state = 'live' and parts = ? and bytes + ? <= ? returning id),
       kept as (insert into recording_part (recording_id, part, data) select id, ?::integer, ?::bytea from own where ?::boolean returning recording_id)
       select id from own`,
      [
        ...[data.length, data.length > 0 ? 1 : 0, recordingId, gatewayId, part, data.length, recordingBytes],
        ...[part, Buffer.from(data), data.length > 0],
      ],
    );
    if (added.length === 0) await this.#explain(gatewayId, recordingId, part);
  }

  /** Why nothing was added; returns when that is right. */
  async #explain(gatewayId: string, recordingId: string, part: number): Promise<void> {
    const [row]: { state: string; parts: number }[] = await this.#parts.store
      .read()
      .execute("select state, parts from recording where id = ? and gateway_id = ?", [recordingId, gatewayId]);
    if (!row) throw new PitwallError("not-found", "there is no such recording of this gateway's", { reason: "RECORDING_NOT_FOUND" });
    if (row.state !== "live") throw new PitwallError("state", "the recording is over", { reason: "RECORDING_OVER" });
    if (part < row.parts) return; // it came before, and the answer was lost
    if (part > row.parts) throw invalid("part", `is ${part}; the next is ${row.parts}`);
    const most = this.#parts.recordingBytes;
    throw new PitwallError("exhausted", `the session's recording holds ${most} bytes, the most that one may`, { reason: "RECORDING_FULL" });
  }

  async close(gatewayId: string, { recordingId, end }: CloseRecordingRequest): Promise<void> {
    checkUuid(recordingId, "recording_id");
    await this.#parts.store.write(
      "update recording set state = 'ended', ending = ?, update_time = now() where id = ? and gateway_id = ? and state = 'live'",
      [end.slice(0, maxEndLength), recordingId, gatewayId],
    );
  }
}

/** Ends what a gateway was recording when it was lost, or when the process was that carried one session. */
export async function cutRecordings(em: EntityManager, gatewayId: string, why: string, sessionId?: string): Promise<void> {
  await em.execute(
    `update recording set state = 'cut', ending = ? where gateway_id = ? and state = 'live' ${sessionId === undefined ? "" : "and session_id = ?"}`,
    [why, gatewayId, ...(sessionId === undefined ? [] : [sessionId])],
  );
}

/** Cuts those whose gateway is silent, and forgets those that began longer ago. */
export async function forgetRecordings(em: EntityManager, olderThanMs: number): Promise<void> {
  await em.execute(
    "update recording set state = 'cut', ending = ? where state = 'live' and update_time < now() - ? * interval '1 millisecond'",
    [gatewayLost, silenceMs],
  );
  await em.execute("delete from recording where state <> 'live' and open_time < now() - ? * interval '1 millisecond'", [olderThanMs]);
}

function noRoom(): PitwallError {
  return new PitwallError("exhausted", "the project has no room for more recordings: an owner can delete some", {
    reason: "RECORDINGS_FULL",
  });
}
