// SessionService: the API's words around open sessions and recordings.
import type { SessionServiceImplementation } from "@pitwall/proto/pitwall/v1/session.ts";
import type { RecordingShelf } from "../access/recording-shelf.ts";
import type { SessionList } from "../access/session-list.ts";
import { userOf, type CallerContext } from "./identity.ts";
import { pageLimit, pageOf } from "./page.ts";

export function sessionService({
  sessions,
  shelf,
}: {
  sessions: SessionList;
  shelf: RecordingShelf;
}): SessionServiceImplementation<CallerContext> {
  return {
    async listSessions({ project, pageSize, pageToken: after }, context) {
      const limit = pageLimit(pageSize);
      const found = await sessions.list(userOf(context), { project, limit: limit + 1, after });
      const { page, nextPageToken } = pageOf(found, limit, ({ id }) => id);
      return { sessions: page, nextPageToken };
    },
    async endSession(request, context) {
      await sessions.end(userOf(context), request);
      return {};
    },
    async listRecordings({ project, pageSize, pageToken: after, vm }, context) {
      const limit = pageLimit(pageSize);
      const found = await shelf.list(userOf(context), { project, vm, limit: limit + 1, after });
      const { page, nextPageToken } = pageOf(found, limit, ({ id }) => id);
      return { recordings: page, nextPageToken };
    },
    getRecording: async ({ project, id }, context) => ({ recording: await shelf.get(userOf(context), project, id) }),
    async *readRecording(request, context) {
      for await (const data of shelf.read(userOf(context), request, context.signal)) yield { data };
    },
    async deleteRecording(request, context) {
      await shelf.delete(userOf(context), request);
      return {};
    },
  };
}
