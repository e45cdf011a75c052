// Sessions: open ways into VMs, and recordings of what they showed.
import type { Client } from "nice-grpc-web";
import { present, type CallExtras } from "./calls.ts";
import type { Lock, Recording, Session, SessionServiceDefinition } from "./gen/pitwall/v1/session.ts";

const pageSize = 500;
const repeatable = { retry: true };

/** All calls throw `PitwallRpcError`. `project` is a name or an id; empty: the caller's personal project. */
export class Sessions {
  readonly #raw: Client<typeof SessionServiceDefinition, CallExtras>;

  constructor(raw: Client<typeof SessionServiceDefinition, CallExtras>) {
    this.#raw = raw;
  }

  /** What is open at this moment, by id. */
  async list(project = ""): Promise<Session[]> {
    const all: Session[] = [];
    for (let pageToken = ""; ;) {
      const page = await this.#raw.listSessions({ project, pageSize, pageToken }, repeatable);
      all.push(...page.sessions);
      pageToken = page.nextPageToken;
      if (pageToken === "") return all;
    }
  }

  /** It ends within seconds. */
  async end(project: string, id: string): Promise<void> {
    await this.#raw.endSession({ requestId: crypto.randomUUID(), project, id }, repeatable);
  }

  /** For owners: nobody is let into the VM any more, and what is open into it ends within seconds. It runs on. */
  async lockVm(vm: string, reason = ""): Promise<void> {
    await this.#raw.lockVm({ requestId: crypto.randomUUID(), vm, reason }, repeatable);
  }

  async unlockVm(vm: string): Promise<void> {
    await this.#raw.unlockVm({ requestId: crypto.randomUUID(), vm }, repeatable);
  }

  /** For administrators: the user is let into no VM any more. */
  async lockUser(subject: string, reason = ""): Promise<void> {
    await this.#raw.lockUser({ requestId: crypto.randomUUID(), subject, reason }, repeatable);
  }

  async unlockUser(subject: string): Promise<void> {
    await this.#raw.unlockUser({ requestId: crypto.randomUUID(), subject }, repeatable);
  }

  /** Of a project's VMs; `-`, for administrators: all, those of users included. */
  async locks(project = ""): Promise<Lock[]> {
    return (await this.#raw.listLocks({ project }, repeatable)).locks;
  }

  /** For owners. Newest first; read page by page, as far as somebody reads. `vm` is a name or an id; default: all. */
  async *recordings({ project = "", vm = "" }: { project?: string; vm?: string } = {}): AsyncGenerator<Recording, void, undefined> {
    for (let pageToken = ""; ;) {
      const page = await this.#raw.listRecordings({ project, vm, pageSize, pageToken }, repeatable);
      yield* page.recordings;
      pageToken = page.nextPageToken;
      if (pageToken === "") return;
    }
  }

  async recording(project: string, id: string): Promise<Recording> {
    return present((await this.#raw.getRecording({ project, id }, repeatable)).recording);
  }

  /** An asciicast, version 2, in pieces of whole lines; with `follow`, as they come until the session ends or the signal aborts. */
  async *readRecording(
    project: string,
    id: string,
    { follow = false, signal }: { follow?: boolean; signal?: AbortSignal } = {},
  ): AsyncGenerator<Uint8Array, void, undefined> {
    for await (const { data } of this.#raw.readRecording({ project, id, follow }, signal ? { signal } : {})) yield data;
  }

  async deleteRecording(project: string, id: string): Promise<void> {
    await this.#raw.deleteRecording({ requestId: crypto.randomUUID(), project, id }, repeatable);
  }
}
