// The SSH keys that a VM has of its own, which open it as whomever, without a way that a controller has opened.
import { VmSpec } from "@pitwall/proto/pitwall/v1/vm.ts";
import type { VmRow } from "../store/entities.ts";
import type { EntityManager } from "../store/store.ts";
import { parseSshKey } from "./ssh-keys.ts";

const maxKept = 1_000;

/** Those that a project's VMs have. */
interface ProjectKeys {
  readonly ofMembers: readonly string[];
  /** Whether those that were given with a VM are its own. */
  readonly given: boolean;
}

/** Of one VM: none when nothing is known of its project. */
export function keysIn({ spec }: VmRow, { ofMembers, given }: ProjectKeys = { ofMembers: [], given: false }): string[] {
  return [...new Set([...ofMembers, ...(given ? VmSpec.fromJSON(spec).authorizedKeys : [])])];
}

/** At most as many as a VM takes at once; those of them that it was not started with it does not learn of. */
export async function keptKeys(em: EntityManager, row: VmRow): Promise<string[]> {
  const keys = keysIn(row, (await keysOf(em, [row.projectId])).get(row.projectId));
  return keys.slice(0, maxKept).map((key) => parseSshKey(key, "public_key").fingerprint);
}

/** By project. A VM knows of a key that it is let in, and not as whom: it has those alone whose holders may be anybody. */
export async function keysOf(em: EntityManager, projectIds: readonly string[]): Promise<ReadonlyMap<string, ProjectKeys>> {
  if (projectIds.length === 0) return new Map();
  const rows: { id: string; given: boolean; public_key: string | null }[] = await em.execute(
    `select project.id, member_logins @> '["*"]' as given, public_key from project
     left join (project_member join ssh_key on owner = subject) on project_id = project.id
       and (role = 'member' and member_logins @> '["*"]' or role = 'owner' and owner_logins @> '["*"]')
     where project.id in (select id::uuid from jsonb_array_elements_text(?::jsonb) as id) order by ssh_key.create_time, fingerprint`,
    [JSON.stringify(projectIds)],
  );
  const keysAmong = (of: typeof rows): ProjectKeys => ({
    ofMembers: of.flatMap(({ public_key }) => public_key ?? []),
    given: of.some(({ given }) => given),
  });
  return new Map([...Map.groupBy(rows, ({ id }) => id)].map(([id, of]) => [id, keysAmong(of)]));
}
