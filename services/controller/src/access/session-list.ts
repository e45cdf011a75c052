// Ways into VMs that are open, for those who look at them and end them. The gateway learns of an end when it next asks which of its ways may
// stay, within seconds.
import { SessionServiceDefinition, type EndSessionRequest, type Session } from "@pitwall/proto/pitwall/v1/session.ts";
import { invalid, isUuid, PitwallError } from "@pitwall/runtime";
import type { Mutations } from "../mutation/mutations.ts";
import type { Principal } from "../projects/principal.ts";
import { reachProject } from "../projects/reach.ts";
import type { Store } from "../store/store.ts";
import type { Way } from "./way.ts";

const service = SessionServiceDefinition;

interface Row {
  readonly id: string;
  readonly vm_id: string;
  readonly actor: string;
  readonly subject: string;
  readonly detail: Way & { readonly name: string };
  readonly open_time: Date;
  readonly recordings: readonly string[];
}

export class SessionList {
  readonly #store: Store;
  readonly #mutations: Mutations;

  constructor({ store, mutations }: { store: Store; mutations: Mutations }) {
    this.#store = store;
    this.#mutations = mutations;
  }

  /** By id; `after` is the last of the page before. */
  async list(caller: Principal, { project, limit, after }: { project: string; limit: number; after: string }): Promise<Session[]> {
    const em = this.#store.read();
    const { project: row } = await reachProject(em, caller, project, "member");
    if (after !== "" && !isUuid(after)) throw invalid("page_token", "is not one that a list returned");
    const rows: Row[] = await em.execute(
      `select id, vm_id, actor, subject, detail, open_time,
         array(select recording.id::text from recording where session_id = access_session.id and gateway_id = access_session.gateway_id
           and state = 'live' order by recording.open_time, recording.id) as recordings
       from access_session where project_id = ? ${after === "" ? "" : "and id > ?"} order by id limit ?`,
      [row.id, ...(after === "" ? [] : [after]), limit],
    );
    return rows.map(toWire);
  }

  /** Throws `not-found` when it is over, and `denied` for somebody else's unless an owner asks. */
  async end(caller: Principal, request: EndSessionRequest): Promise<void> {
    await this.#mutations.run({
      service,
      method: service.methods.endSession,
      caller,
      request,
      work: async ({ em, audit }) => {
        const { id } = request;
        const { project, role } = await reachProject(em, caller, request.project, "member");
        const [row]: Row[] = isUuid(id)
          ? await em.execute("select id, vm_id, actor, subject, detail from access_session where id = ? and project_id = ? for update", [
              id,
              project.id,
            ])
          : [];
        if (!row)
          throw new PitwallError("not-found", `the project ${project.name} has no open session ${JSON.stringify(id.slice(0, 80))}`, {
            reason: "SESSION_NOT_FOUND",
            field: "id",
          });
        if (role !== "owner" && row.subject !== caller.subject)
          throw new PitwallError("denied", `the session is ${row.actor}'s: owners of the project end those of others`, {
            reason: "ROLE_TOO_LOW",
          });
        await em.execute("update access_session set ending = true where id = ?", [row.id]);
        await audit({
          object: `vm/${row.vm_id}`,
          projectId: project.id,
          detail: { session: row.id, name: row.detail.name, of: row.actor },
        });
        return {};
      },
    });
  }
}

function toWire({ id, vm_id: vmId, actor, subject, detail, open_time: openTime, recordings }: Row): Session {
  return {
    id,
    vmId,
    vm: detail.name,
    actor,
    subject,
    // A gateway of a version before says nothing of the way.
    way: detail.target === "guestApi" ? "call" : (detail.way ?? "ssh"),
    user: detail.user ?? "",
    key: detail.key ?? "",
    method: detail.method ?? "",
    startTime: new Date(openTime),
    recordingIds: [...recordings],
  };
}
