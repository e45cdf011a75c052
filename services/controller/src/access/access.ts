// Who may reach which VM, asked by gateways.
import type { EntityManager } from "@mikro-orm/postgresql";
import type { Verifier } from "@pitwall/auth";
import type { AuthorizeSshRequest, AuthorizeSshResponse, Caller, OpenTunnelRequest, OpenTunnelResponse } from "@pitwall/proto/pitwall/v1/access.ts";
import { Phase, VmSpec } from "@pitwall/proto/pitwall/v1/vm.ts";
import { hostPort, invalid, PitwallError } from "@pitwall/runtime";
import type { Sessions } from "../nodes/sessions.ts";
import { SshKeyEntity, VmEntity, type VmRow } from "../store/entities.ts";
import type { Store } from "../store/store.ts";
import { parseSshKey } from "../vm/ssh-keys.ts";
import { find, notFound } from "../vm/vms.ts";

export class Access {
  readonly #store: Store;
  readonly #sessions: Sessions;
  readonly #verifier: Verifier;

  constructor(store: Store, sessions: Sessions, verifier: Verifier) {
    this.#store = store;
    this.#sessions = sessions;
    this.#verifier = verifier;
  }

  async authorizeSsh({ sshPublicKey, vm }: AuthorizeSshRequest): Promise<AuthorizeSshResponse> {
    const em = this.#store.read();
    if (vm === "") {
      const { fingerprint } = parseSshKey(sshPublicKey, "ssh_public_key");
      const key = await em.findOne(SshKeyEntity, { fingerprint });
      if (!key) throw new PitwallError("not-found", "this key is not known", { reason: "KEY_NOT_FOUND" });
      return { subject: key.owner, vmId: "", sshHostKey: "" };
    }
    const row = await findByKey(em, sshPublicKey, vm);
    return { subject: row.owner, vmId: row.id, sshHostKey: row.sshHostKey };
  }

  /** Has the VM's node dial the gateway. */
  async openTunnel({ caller, vm, target, token, gatewayAddress }: OpenTunnelRequest): Promise<OpenTunnelResponse> {
    if (!target?.target) throw invalid("target", "is required");
    if (target.target.$case === "tcp" && (target.target.value.port < 1 || target.target.value.port > 65535)) throw invalid("target.tcp.port", "must be 1 to 65535");
    if (!/^[A-Za-z0-9_-]{43}$/.test(token)) throw invalid("token", "must be 32 bytes in base64url");
    if (!hostPort.safeParse(gatewayAddress).success) throw invalid("gateway_address", "must be HOST:PORT");
    const row = await this.#reach(caller, vm);
    if (row.phase !== Phase.PHASE_RUNNING) throw new PitwallError("state", `the VM ${row.name} is not running`, { reason: "VM_NOT_RUNNING" });
    if (!this.#sessions.tunnel(row.nodeId, { vmId: row.id, epoch: row.epoch, target, token, gatewayAddress })) {
      throw new PitwallError("unavailable", "the VM's node has no link to the controller right now; try again", { reason: "NODE_UNREACHABLE" });
    }
    return { vmId: row.id, epoch: row.epoch, sshHostKey: row.sshHostKey, subject: row.owner };
  }

  async #reach(caller: Caller | undefined, vm: string): Promise<VmRow> {
    const em = this.#store.read();
    switch (caller?.credential?.$case) {
      case "bearerToken": {
        const { subject } = await this.#verifier.verify(`Bearer ${caller.credential.value}`);
        return find(em, subject, vm);
      }
      case "sshPublicKey":
        return findByKey(em, caller.credential.value, vm);
      case undefined:
        throw invalid("caller", "is required");
    }
  }
}

/** The VM of this name or id that the key opens: its owner's key, or one that was given with the VM. Names are unique per owner only. */
async function findByKey(em: EntityManager, publicKey: string, vm: string): Promise<VmRow> {
  const { line, fingerprint } = parseSshKey(publicKey, "ssh_public_key");
  const owner = (await em.findOne(SshKeyEntity, { fingerprint }))?.owner;
  if (owner !== undefined) {
    const own = await find(em, owner, vm).catch(() => undefined);
    if (own) return own;
  }
  const isId = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(vm);
  const rows = await em.find(VmEntity, isId ? { id: vm } : { name: vm });
  const [match, ...more] = rows.filter((row) => VmSpec.fromJSON(row.spec).authorizedKeys.includes(line));
  // One key given with VMs of the same name of several owners: only an id is clear.
  if (!match || more.length > 0) throw notFound(vm);
  return match;
}
