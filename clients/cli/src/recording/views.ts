// Sessions and recordings as tables and lists.
import { Recording, RecordingState, Session } from "@pitwall/sdk";
import type { View } from "../output/format.ts";
import { fieldList, table } from "../output/table.ts";
import { ageWord, byteWord, durationWord } from "../output/words.ts";

export function sessionTable(sessions: readonly Session[], nowMs: number): View {
  return {
    table: () =>
      table(
        ["ID", "VM", "WHO", "WAY", "USER", "RECORDED", "AGE"],
        sessions.map(({ id, vm, actor, way, method, user, recordingIds, startTime }) => [
          id,
          vm,
          actor,
          method === "" ? way : method,
          user,
          recordingIds.length > 0 ? "yes" : "no",
          ageWord(startTime, nowMs),
        ]),
      ),
    json: sessions.map((session) => Session.toJSON(session)),
    names: sessions.map(({ id }) => id),
  };
}

/** `live`, `ended` or `cut`. */
function recordingStateWord(state: RecordingState): string {
  switch (state) {
    case RecordingState.RECORDING_STATE_LIVE:
      return "live";
    case RecordingState.RECORDING_STATE_ENDED:
      return "ended";
    case RecordingState.RECORDING_STATE_CUT:
      return "cut";
    default:
      return "unknown";
  }
}

export function recordingTable(recordings: readonly Recording[], nowMs: number): View {
  return {
    table: () =>
      table(
        ["ID", "VM", "WHO", "STATE", "LENGTH", "SIZE", "AGE", "COMMAND"],
        recordings.map((one) => [
          one.id,
          one.vm,
          one.actor,
          recordingStateWord(one.state),
          lengthOf(one),
          byteWord(one.sizeBytes),
          ageWord(one.startTime, nowMs),
          one.command === "" ? "(shell)" : one.command.slice(0, 40),
        ]),
      ),
    json: recordings.map((recording) => Recording.toJSON(recording)),
    names: recordings.map(({ id }) => id),
  };
}

export function recordingDetails(recording: Recording): View {
  return {
    table: () =>
      fieldList([
        ["Id", recording.id],
        ["Session", recording.sessionId],
        ["VM", `${recording.vm} (${recording.vmId})`],
        ["Who", recording.actor],
        ["On behalf of", recording.subject === recording.actor ? "" : recording.subject],
        ["User in the VM", recording.user],
        ["Command", recording.command === "" ? "(shell)" : recording.command],
        ["Terminal", recording.hasTerminal ? "yes" : "no"],
        ["State", recordingStateWord(recording.state)],
        ["End", recording.end],
        ["Began", recording.startTime?.toISOString() ?? ""],
        ["Length", lengthOf(recording)],
        ["Size", byteWord(recording.sizeBytes)],
      ]),
    json: Recording.toJSON(recording),
    names: [recording.id],
  };
}

function lengthOf({ startTime, endTime }: Recording): string {
  return startTime && endTime ? durationWord(Math.max(0, endTime.getTime() - startTime.getTime())) : "";
}
