// What is known before a VM is made: the project and the caller's role in it, and whether the request has been answered already. Those who
// ask at the same time are one question to the database.
import { CreateVmResponse } from "@pitwall/proto/pitwall/v1/vm.ts";
import { answerOf } from "../mutation/answers.ts";
import type { Leavings } from "../mutation/mutations.ts";
import { gather } from "../nodes/gather.ts";
import type { Principal, ProjectRole } from "../projects/principal.ts";
import { isVisible, projectNotFound, roleIn, seekProject, soughtColumns, soughtProjects } from "../projects/reach.ts";
import type { Store } from "../store/store.ts";

const atOnce = 64;

export interface BeforeCreate {
  readonly caller: Principal;
  readonly reference: string;
  readonly leavings: Leavings | undefined;
}

export interface ReachedId {
  readonly project: { readonly id: string; readonly name: string };
  readonly role: ProjectRole;
}

export interface KnownBefore extends ReachedId {
  /** What the same request was answered with. */
  readonly earlier: CreateVmResponse | undefined;
  /** Whether the project signs in to any registry. */
  readonly hasCredentials: boolean;
}

interface Row {
  readonly id: string | null;
  readonly name: string;
  readonly role: string | null;
  readonly has_credentials: boolean;
  readonly method: string | null;
  readonly digest: string;
  readonly answer: Buffer | null;
}

/** Throws `not-found` and `denied` as `reachProject` does, and what an answer of another request is refused with. */
export function beforeCreate(store: Store): (asked: BeforeCreate) => Promise<KnownBefore> {
  const look = gather(async (all: readonly BeforeCreate[]) => rowsOf(store, all), atOnce);
  return async (asked) => known(asked, await look(asked));
}

async function rowsOf(store: Store, all: readonly BeforeCreate[]): Promise<Row[]> {
  const given = all.map(({ caller, reference, leavings }, at) => ({
    ...{ at, subject: leavings?.request?.subject ?? "", request_id: leavings?.request?.requestId ?? null },
    ...seekProject(caller, reference),
  }));
  return store.read().execute(
    `select case when ${isVisible} then project.id end as id, project.name, project_member.role, method, digest, answer,
       exists (select from registry_credential c where c.project_id = project.id) as has_credentials
     from (select * from jsonb_to_recordset(?::jsonb) as given(at int, subject text, request_id uuid, ${soughtColumns})) as ${soughtProjects}
       left join request on request.owner = given.subject and request.request_id = given.request_id
     order by at`,
    [JSON.stringify(given)],
  );
}

function known({ caller, reference, leavings }: BeforeCreate, row: Row): KnownBefore {
  if (row.id === null) throw projectNotFound(reference);
  const role = roleIn(caller, row.role, "member", `the project ${row.name}`);
  const earlier = row.method === null ? undefined : { method: row.method, digest: row.digest, answer: row.answer };
  const answer = earlier && leavings?.request && answerOf(earlier, leavings.request);
  return {
    project: { id: row.id, name: row.name },
    role,
    earlier: answer && CreateVmResponse.decode(answer),
    hasCredentials: row.has_credentials,
  };
}
