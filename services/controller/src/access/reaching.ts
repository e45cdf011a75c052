// The VM that somebody means, found by what they show: a key, a certificate, a grant. Each throws the same words for what is not there and what is
// not theirs.
import type { IngressGrant } from "@pitwall/auth";
import { isUuid, PitwallError } from "@pitwall/runtime";
import type { Principal, ProjectRole } from "../projects/principal.ts";
import { reachVm, reachVmInRole, vmNotFound } from "../projects/reach.ts";
import { SshKeyEntity, VmEntity, type VmRow } from "../store/entities.ts";
import type { EntityManager } from "../store/store.ts";
import { parseSshKey } from "../vm/ssh-keys.ts";
import type { CertifiedUser } from "./ssh-certificates.ts";

/** Who reaches a VM. */
export interface Reaching {
  readonly row: VmRow;
  /** Of whom nobody has given a role, those who are let in from outside and keys that were given with a VM, the least one that may enter. */
  readonly role: ProjectRole;
  /** As the audit log names it; a key that was given with a VM is nobody's: `key:SHA256:…`. */
  readonly actor: string;
  readonly subject: string;
  /** Let in from outside, by a public port or a grant: it is told nothing of the VM, not even its name in its project. */
  readonly isOutsider?: true;
}

export async function ownerOfGuestKey(em: EntityManager, line: string): Promise<string | undefined> {
  const [row]: { owner: string }[] = await em.execute("select owner from vm where spec->'authorizedKeys' @> ?::jsonb limit 1", [
    JSON.stringify([line]),
  ]);
  return row?.owner;
}

/** Ids of the VMs of this reference that were given the key, two at most: a name is looked for in all projects. */
async function openedByGuestKey(em: EntityManager, line: string, vm: string): Promise<string[]> {
  const [, project, name = vm] = /^(.+)\/(.+)$/.exec(vm) ?? [];
  const which = isUuid(vm) ? "vm.id = ?" : `vm.name = ? and delete_time is null and ${project === undefined ? "true" : "project.name = ?"}`;
  const rows: { id: string }[] = await em.execute(
    `select vm.id from vm join project on project.id = project_id where spec->'authorizedKeys' @> ?::jsonb and ${which} limit 2`,
    [JSON.stringify([line]), name, ...(project === undefined ? [] : [project])],
  );
  return rows.map(({ id }) => id);
}

/** The VM that the key opens: the key of a user who may, or one that was given with the VM. Names are unique in a project only. */
export async function findByKey(em: EntityManager, publicKey: string, vm: string): Promise<Reaching> {
  const { line, fingerprint } = parseSshKey(publicKey, "ssh_public_key");
  const owner = (await em.findOne(SshKeyEntity, { fingerprint }))?.owner;
  if (owner !== undefined) {
    const own = await reachVmInRole(em, keyHolder(owner), vm, "member").catch(() => undefined);
    if (own) return { ...own, actor: owner, subject: owner };
  }
  const [found, ...more] = await openedByGuestKey(em, line, vm);
  const match = found && (await em.findOne(VmEntity, { id: found }));
  // One key given with VMs of the same name in several projects: only an id, or PROJECT/NAME, is clear.
  if (!match || more.length > 0) throw vmNotFound(vm);
  return { row: match, role: "member", actor: `key:${fingerprint}`, subject: match.owner };
}

/** Of its name below the gateways' domain, or its id. */
export async function findByHost(em: EntityManager, host: string): Promise<VmRow | undefined> {
  return (await em.findOne(VmEntity, isUuid(host) ? { id: host } : { host })) ?? undefined;
}

/** The VM that a grant was made for, if it is the one that is meant, and its maker still may. */
export async function findByGrant(
  em: EntityManager,
  grant: IngressGrant,
  named: VmRow | undefined,
  port: number | undefined,
): Promise<Reaching> {
  if (!named || named.id !== grant.vmId || (port || named.httpPort) !== grant.port)
    throw new PitwallError("unauthenticated", "the address that let you in was made for another VM, or another port of it", {
      reason: "GRANT_REFUSED",
    });
  const row = await reachVm(em, keyHolder(grant.subject), grant.vmId, "member").catch((error: unknown) => {
    if (!(error instanceof PitwallError)) throw error; // that the database is away takes nobody's role away
    throw new PitwallError("denied", "whoever made the address that let you in may no longer enter this VM", { reason: "ACCESS_REVOKED" });
  });
  return { row, role: "member", actor: grant.subject, subject: grant.subject, isOutsider: true };
}

/** The VM that a certificate was made for, if its user still may. */
export async function findByCertificate(em: EntityManager, { subject, vms }: CertifiedUser, vm: string): Promise<Reaching> {
  const own = await reachVmInRole(em, keyHolder(subject), vm, "member").catch(() => undefined);
  if (!own || !vms.includes(own.row.id)) throw vmNotFound(vm);
  return { ...own, actor: subject, subject };
}

/** Whoever has a user's key is that user, and no administrator. */
function keyHolder(subject: string): Principal {
  return { subject, username: "", isAdmin: false, token: undefined };
}
