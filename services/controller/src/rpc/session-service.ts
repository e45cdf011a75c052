// SessionService: the API's words around open sessions and recordings.
import type { SessionServiceImplementation } from "@pitwall/proto/pitwall/v1/session.ts";
import type { Locks } from "../access/locks.ts";
import type { RecordingShelf } from "../access/recording-shelf.ts";
import type { SessionList } from "../access/session-list.ts";
import { userOf, type CallerContext } from "./identity.ts";
import type { Pages } from "./page.ts";

export function sessionService({
  sessions,
  locks,
  shelf,
  pages,
}: {
  sessions: SessionList;
  locks: Locks;
  shelf: RecordingShelf;
  pages: Pages;
}): SessionServiceImplementation<CallerContext> {
  return {
    async listSessions(request, context) {
      const { project } = request;
      const { limit, after, cut } = pages(userOf(context), ["ListSessions", project], request);
      const { page, nextPageToken } = cut(await sessions.list(userOf(context), { project, limit: limit + 1, after }), ({ id }) => id);
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
    async listRecordings(request, context) {
      const { project, vm } = request;
      const { limit, after, cut } = pages(userOf(context), ["ListRecordings", project, vm], request);
      const { page, nextPageToken } = cut(await shelf.list(userOf(context), { project, vm, limit: limit + 1, after }), ({ id }) => id);
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
