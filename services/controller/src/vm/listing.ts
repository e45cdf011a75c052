// Lists of VMs: filtered, in an order, page by page. A page begins behind the last VM of the one before, whatever has changed meanwhile.
import { createHash } from "node:crypto";
import { Desired, Phase, type ListVmsRequest, type Vm } from "@pitwall/proto/pitwall/v1/vm.ts";
import { invalid } from "@pitwall/runtime";
import { z } from "zod";
import { parseFilter } from "../filter/parse.ts";
import { conditionOf, mapField, textField, timeField, wordField, type Fields, type Parameter } from "../filter/sql.ts";
import type { Signer } from "../mutation/signer.ts";
import type { Principal } from "../projects/principal.ts";
import { reachableProjects, reachProject } from "../projects/reach.ts";
import { NodeEntity, ProjectEntity, VmEntity } from "../store/entities.ts";
import type { EntityManager, Store } from "../store/store.ts";
import { toVm } from "./wire.ts";

const tokenPurpose = "vm-page";

const words = (values: Readonly<Record<string, number>>, prefix: string): ReadonlyMap<string, number> =>
  new Map(Object.entries(values).flatMap(([name, value]) => (value > 0 ? [[name.replace(prefix, ""), value] as const] : [])));

/** What a filter may name. docs/api.md lists it. */
const fields: Fields = {
  name: textField("vm.name"),
  id: textField("vm.id::text"),
  owner: textField("vm.owner"),
  node: textField("coalesce(node.name, '')"),
  node_id: textField("vm.node_id::text"),
  project: textField("project.name"),
  image: textField("vm.spec ->> 'image'"),
  image_digest: textField("vm.image_digest"),
  reason: textField("vm.reason"),
  phase: wordField("vm.phase", words(Phase, "PHASE_")),
  desired: wordField("vm.desired", words(Desired, "DESIRED_")),
  delete_protection: wordField(
    "vm.delete_protection",
    new Map([
      ["true", true],
      ["false", false],
    ]),
  ),
  "labels.": mapField("vm.spec -> 'labels'"),
  create_time: timeField("vm.create_time"),
  update_time: timeField("vm.update_time"),
  expire_time: timeField("vm.expire_time"),
  delete_time: timeField("vm.delete_time"),
};

/** By each of which a list can be ordered, with the type in which a page's end is compared. */
const orders: Readonly<Record<string, { readonly column: string; readonly type: string }>> = {
  name: { column: 'vm.name collate "C"', type: "text" },
  create_time: { column: "vm.create_time", type: "timestamptz" },
  update_time: { column: "vm.update_time", type: "timestamptz" },
  phase: { column: "vm.phase", type: "int" },
};

interface Order {
  readonly column: string;
  readonly type: string;
  readonly isDescending: boolean;
}

const pageToken = z.tuple([z.string(), z.string(), z.string()]);

export interface Page {
  readonly vms: Vm[];
  readonly nextPageToken: string;
}

/** `limit` is the size of a page. Throws `invalid` naming the field, and `not-found` for a project that is not the caller's to see. */
export async function listVms(
  { store, signer }: { readonly store: Store; readonly signer: Signer },
  caller: Principal,
  request: ListVmsRequest,
  limit: number,
): Promise<Page> {
  const em = store.read();
  const filter = conditionOf(parseFilter(request.filter), fields);
  const order = parseOrder(request.orderBy);
  const projectIds = await projectsOf(em, caller, request.project);
  const scope = scopeOf(caller, request, projectIds);
  const after = request.pageToken === "" ? undefined : readToken(signer, request.pageToken, scope);
  const sign = order.isDescending ? "<" : ">";
  const behind = after ? `and (${order.column}, vm.id) ${sign} (?::text::${order.type}, ?::uuid)` : "";
  const values: Parameter[] = [JSON.stringify(projectIds), ...filter.values, ...(after ? [after.key, after.id] : [])];
  const direction = order.isDescending ? "desc" : "asc";
  const found: { id: string; key: string }[] = await em.execute(
    `select vm.id, (${order.column})::text as key from vm join project on project.id = vm.project_id left join node on node.id = vm.node_id
     where vm.project_id in (select value::uuid from jsonb_array_elements_text(?::jsonb))
       ${request.showDeleted ? "" : "and vm.delete_time is null"} and (${filter.sql}) ${behind}
     order by ${order.column} ${direction}, vm.id ${direction} limit ${limit + 1}`,
    values,
  );
  const page = found.slice(0, limit);
  const last = page.at(-1);
  const nextPageToken = last && found.length > limit ? signToken(signer, scope, last.key, last.id) : "";
  return {
    vms: await readVms(
      em,
      page.map(({ id }) => id),
    ),
    nextPageToken,
  };
}

async function projectsOf(em: EntityManager, caller: Principal, reference: string): Promise<string[]> {
  if (reference === "-") return (await reachableProjects(em, caller)).toSorted();
  return [(await reachProject(em, caller, reference, "viewer")).project.id];
}

/** In the order of the ids. Those that are gone meanwhile are left out. */
async function readVms(em: EntityManager, ids: readonly string[]): Promise<Vm[]> {
  const rows = await em.find(VmEntity, { id: { $in: [...ids] } });
  const nodes = await em.find(NodeEntity, { id: { $in: [...new Set(rows.map(({ nodeId }) => nodeId))] } });
  const projects = await em.find(ProjectEntity, { id: { $in: [...new Set(rows.map(({ projectId }) => projectId))] } });
  const names = new Map([...nodes, ...projects].map(({ id, name }) => [id, name]));
  const byId = new Map(rows.map((row) => [row.id, row]));
  return ids.flatMap((id) => {
    const row = byId.get(id);
    return row ? [toVm(row, { node: names.get(row.nodeId) ?? "", project: names.get(row.projectId) ?? "" })] : [];
  });
}

function parseOrder(text: string): Order {
  const [, name = "", direction] = /^\s*([a-z_]+)(?:\s+(asc|desc))?\s*$/.exec(text === "" ? "name" : text) ?? [];
  const order = Object.hasOwn(orders, name) ? orders[name] : undefined;
  if (!order)
    throw invalid(
      "order_by",
      `must be one of ${Object.keys(orders).join(", ")}, with or without desc, got ${JSON.stringify(text.slice(0, 80))}`,
    );
  return { ...order, isDescending: direction === "desc" };
}

/** A token is good for the list that it was made for. */
function scopeOf({ subject }: Principal, { filter, orderBy, showDeleted }: ListVmsRequest, projectIds: readonly string[]): string {
  return createHash("sha256")
    .update(JSON.stringify([subject, filter, orderBy, showDeleted, projectIds]))
    .digest("base64url")
    .slice(0, 22);
}

function signToken(signer: Signer, scope: string, key: string, id: string): string {
  const payload: z.input<typeof pageToken> = [scope, key, id];
  return signer.sign(tokenPurpose, Buffer.from(JSON.stringify(payload)).toString("base64url"));
}

function readToken(signer: Signer, token: string, scope: string): { readonly key: string; readonly id: string } {
  const payload = signer.verify(tokenPurpose, token);
  if (payload === undefined) throw invalid("page_token", "is not a `next_page_token` of this installation");
  const [ofScope, key, id] = pageToken.parse(JSON.parse(Buffer.from(payload, "base64url").toString()));
  if (ofScope !== scope)
    throw invalid("page_token", "is of another list: project, filter, order_by and show_deleted must stay as they were");
  return { key, id };
}
