// SessionService: the API's words around open sessions and recordings.
import type { SessionServiceImplementation } from "@pitwall/proto/pitwall/v1/session.ts";
import type { Locks } from "../access/locks.ts";
import type { RecordingShelf } from "../access/recording-shelf.ts";
import type { SessionList } from "../access/session-list.ts";
import { userOf, type CallerContext } from "./identity.ts";
import { pageLimit, pageOf } from "./page.ts";

export function sessionService({
  sessions,
  locks,
  shelf,
}: {
  sessions: SessionList;
  locks: Locks;
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
    async lockVm(request, context) {
      await locks.lockVm(userOf(context), request);
      return {};
    },
    async unlockVm(request, context) {
      await locks.unlockVm(userOf(context), request);
      return {};
    },
    async lockUser(request, context) {
      await locks.lockUser(userOf(context), request);
      return {};
    },
    async unlockUser(request, context) {
      await locks.unlockUser(userOf(context), request);
      return {};
    },
    listLocks: async ({ project }, context) => ({ locks: await locks.list(userOf(context), project) }),
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
