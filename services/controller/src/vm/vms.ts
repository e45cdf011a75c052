// VMs: what their owners ask for, and what nodes report of them. Every change goes through here.
import { createHash, randomUUID } from "node:crypto";
import { ignoredFields, type ImageSources, type ResolvedImage } from "@pitwall/oci";
import type { Assignment, Inventory, VmReport } from "@pitwall/proto/pitwall/v1/link.ts";
import { CreateVmRequest, Desired, Exit, Health, Phase, VmSpec, VmTimings, type Vm } from "@pitwall/proto/pitwall/v1/vm.ts";
import { invalid, PitwallError, systemClock, toDuration, type Log } from "@pitwall/runtime";
import type { Nodes } from "../nodes/nodes.ts";
import { holdsSession } from "../nodes/session-rows.ts";
import type { Session, Sessions } from "../nodes/sessions.ts";
import { choose, hasRoom, noRoom } from "../placement/place.ts";
import type { Principal } from "../projects/principal.ts";
import { reachableProjects, reachProject, reachVm } from "../projects/reach.ts";
import { NodeEntity, ProjectEntity, RequestEntity, VmEntity, type VmRow } from "../store/entities.ts";
import { isKeyTaken, type EntityManager, type Store } from "../store/store.ts";
import { Feed } from "./feed.ts";
import { checkVmName, makeName } from "./names.ts";
import { checkSpec } from "./spec.ts";
import { toAssignment, toGone, toVm } from "./wire.ts";

const uuid = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;
/** A VM that its node no longer has must not be made there anew, with an empty disk, before its owner has seen that. */
const lost = "VM_LOST";
const requestMemoryMs = 24 * 60 * 60_000;

type After = (publish: () => void) => void;

export class Vms {
  readonly #store: Store;
  readonly #nodes: Nodes;
  readonly #sessions: Sessions;
  readonly #images: ImageSources;
  readonly #log: Log;
  readonly feed: Feed;

  private constructor(store: Store, nodes: Nodes, sessions: Sessions, images: ImageSources, log: Log, feed: Feed) {
    this.#store = store;
    this.#nodes = nodes;
    this.#sessions = sessions;
    this.#images = images;
    this.#log = log;
    this.feed = feed;
  }

  static async open(parts: { store: Store; nodes: Nodes; sessions: Sessions; images: ImageSources; log: Log }): Promise<Vms> {
    const [last]: { last: string }[] = await parts.store.read().execute("select coalesce(max(revision), 0) as last from vm");
    return new Vms(parts.store, parts.nodes, parts.sessions, parts.images, parts.log, new Feed(BigInt(last?.last ?? 0)));
  }

  /** Resolves the image, places the VM and tells its node. A repeated request id returns the VM that the first one made. */
  async create(caller: Principal, request: CreateVmRequest, signal: AbortSignal): Promise<Vm> {
    const started = systemClock.monotonicMs();
    if (request.requestId !== "" && !uuid.test(request.requestId)) throw invalid("request_id", "must be a UUID in lower case");
    const spec = checkSpec(request.spec);
    const name = request.name === "" ? makeName() : checkVmName(request.name);
    const digest = createHash("sha256")
      .update(CreateVmRequest.encode({ ...request, requestId: "" }).finish())
      .digest("hex");
    const owner = caller.subject;
    const reader = this.#store.read();
    const { project } = await reachProject(reader, caller, request.project, "member");
    const earlier = await this.#answered(reader, owner, request.requestId, digest);
    if (earlier) return earlier;
    if ((await reader.count(VmEntity, { projectId: project.id, name, deleteTime: null })) > 0) throw nameTaken(name);
    const image = await this.#images.resolve(spec.image, signal);
    if (request.strict) refuseIgnored(image);
    return this.#store
      .change(async (em, after) => {
        const repeated = await this.#answered(em, owner, request.requestId, digest);
        if (repeated) return repeated;
        const cpuMillis = BigInt(spec.cpuMillis);
        const node = choose(await this.#nodes.candidates(em), { cpuMillis, memBytes: spec.memBytes, diskBytes: spec.diskBytes });
        const now = new Date();
        const row = em.create(VmEntity, {
          id: randomUUID(),
          name,
          projectId: project.id,
          owner,
          spec: VmSpec.toJSON(spec),
          imageDigest: image.digest,
          desired: Desired.DESIRED_RUNNING,
          generation: 1n,
          observedGeneration: 0n,
          phase: Phase.PHASE_PLACED,
          reason: "",
          message: "",
          nodeId: node.id,
          epoch: 1n,
          sshHostKey: "",
          serviceExit: null,
          restartCount: 0,
          health: Health.HEALTH_UNSPECIFIED,
          timings: VmTimings.toJSON({ ...VmTimings.fromPartial({}), place: toDuration(systemClock.monotonicMs() - started) }),
          createTime: now,
          updateTime: now,
          revision: 0n,
          cpuMillis: spec.cpuMillis,
          memBytes: spec.memBytes,
          diskBytes: spec.diskBytes,
          deleteProtection: false,
          expireTime: null,
          deleteTime: null,
          purgeTime: null,
          restartGeneration: 0n,
        });
        await em.flush(); // before the request that refers to it
        if (request.requestId !== "") {
          await em.nativeDelete(RequestEntity, { createTime: { $lt: new Date(now.getTime() - requestMemoryMs) } });
          await em.insert(RequestEntity, {
            owner,
            requestId: request.requestId,
            method: "CreateVm",
            digest,
            vmId: row.id,
            createTime: now,
          });
        }
        return this.#changed(em, after, row);
      })
      .catch((error: unknown) => {
        throw isKeyTaken(error) ? nameTaken(name) : error;
      });
  }

  async #answered(em: EntityManager, owner: string, requestId: string, digest: string): Promise<Vm | undefined> {
    if (requestId === "") return undefined;
    const known = await em.findOne(RequestEntity, { owner, requestId });
    if (!known) return undefined;
    if (known.digest !== digest)
      throw new PitwallError("invalid", "request_id: was used for another request", { field: "request_id", reason: "REQUEST_ID_REUSED" });
    const row = await em.findOne(VmEntity, { id: known.vmId });
    if (!row) throw new PitwallError("not-found", "the VM that this request made has been deleted since", { reason: "VM_NOT_FOUND" });
    return this.#toVm(em, row);
  }

  /** Throws `not-found`, also for VMs that are not the caller's to see. */
  async get(caller: Principal, reference: string): Promise<Vm> {
    const em = this.#store.read();
    return this.#toVm(em, await reachVm(em, caller, reference, "viewer"));
  }

  /** Of the personal project, by name; `after` is the last name of the page before. */
  async list(caller: Principal, limit: number, after: string): Promise<Vm[]> {
    const em = this.#store.read();
    const { project } = await reachProject(em, caller, "", "viewer");
    const where = { projectId: project.id, deleteTime: null, name: { $gt: after } };
    const rows = await em.find(VmEntity, where, { orderBy: { name: "asc" }, limit });
    const names = await nodeNames(em);
    return rows.map((row) => toVm(row, { node: names.get(row.nodeId) ?? "", project: project.name }));
  }

  /** Ids of the projects that a reference stands for: one, or with `-` all that the caller has a role in. */
  async projectIds(caller: Principal, reference: string): Promise<ReadonlySet<string>> {
    const em = this.#store.read();
    if (reference === "-") return new Set(await reachableProjects(em, caller));
    return new Set([(await reachProject(em, caller, reference, "viewer")).project.id]);
  }

  async setDesired(caller: Principal, reference: string, desired: Vm["desired"]): Promise<Vm> {
    return this.#store.change(async (em, after) => {
      const row = await reachVm(em, caller, reference, "member");
      if (row.desired === Desired.DESIRED_DELETED) {
        if (desired === Desired.DESIRED_DELETED) return this.#toVm(em, row);
        throw new PitwallError("state", `the VM ${row.name} is being deleted`, { reason: "VM_DELETING" });
      }
      const failed = row.phase === Phase.PHASE_FAILED || (row.phase === Phase.PHASE_STOPPED && desired === Desired.DESIRED_RUNNING);
      if (row.desired === desired && !failed) return this.#toVm(em, row);
      if (desired === Desired.DESIRED_RUNNING) await this.#readmit(em, row);
      row.desired = desired;
      row.generation += 1n;
      return this.#changed(em, after, row);
    });
  }

  /** A stopped VM gave its CPU and memory back; its disk, and so the VM, stays where it is. */
  async #readmit(em: EntityManager, row: VmRow): Promise<void> {
    const node = (await this.#nodes.candidates(em)).find(({ id }) => id === row.nodeId);
    const idle = row.desired === Desired.DESIRED_STOPPED && (row.phase === Phase.PHASE_STOPPED || row.phase === Phase.PHASE_FAILED);
    const wanted = { cpuMillis: idle ? BigInt(row.cpuMillis) : 0n, memBytes: idle ? row.memBytes : 0n, diskBytes: 0n };
    if (node && !hasRoom(node, wanted)) throw noRoom([node], wanted);
  }

  /** A node's complete inventory. What it says of each VM is taken; what it lacks is gone. */
  async takeInventory(session: Session, inventory: Inventory): Promise<void> {
    for (const report of inventory.vms) await this.report(session, report);
    if (!inventory.complete) return;
    const present = new Set(inventory.vms.map(({ vmId }) => vmId));
    await this.#store.change(async (em, after) => {
      if (!(await holdsSession(em, session))) return;
      for (const row of await em.find(VmEntity, { nodeId: session.nodeId })) {
        if (present.has(row.id)) continue;
        if (row.desired === Desired.DESIRED_DELETED) await this.#removed(em, after, row);
        else if (row.observedGeneration > 0n && row.reason !== lost) await this.#lose(em, after, row);
      }
    });
  }

  /** All assignments of a node, and the deletion of what it has and should not. */
  async assignments(nodeId: string, inventory: Inventory): Promise<Assignment[]> {
    const em = this.#store.read();
    const rows = await em.find(VmEntity, { nodeId });
    const known = new Set(rows.map(({ id }) => id));
    const wanted = await Promise.all(rows.filter((row) => !isLost(row)).map((row) => this.#assignment(em, row)));
    const strays = inventory.vms.filter(({ vmId, phase }) => !known.has(vmId) && phase !== Phase.PHASE_GONE);
    return [...wanted, ...strays.map(deletion)];
  }

  /** What a node has not yet brought about, said again. */
  async pending(nodeId: string): Promise<Assignment[]> {
    const em = this.#store.read();
    const rows = await em.find(VmEntity, { nodeId });
    const differ = rows.filter(
      (row) => !isLost(row) && (row.generation !== row.observedGeneration || row.desired === Desired.DESIRED_DELETED),
    );
    return Promise.all(differ.map((row) => this.#assignment(em, row)));
  }

  /** Takes a report, unless it speaks of another placement or comes from a session that is over. */
  async report(session: Session, report: VmReport): Promise<void> {
    const stray = await this.#store.change(async (em, after) => {
      if (!(await holdsSession(em, session))) return false;
      const row = uuid.test(report.vmId) ? await em.findOne(VmEntity, { id: report.vmId }) : null;
      if (!row || row.nodeId !== session.nodeId) return report.phase !== Phase.PHASE_GONE;
      if (row.epoch !== report.epoch || report.generation < row.observedGeneration) return false;
      if (report.phase === Phase.PHASE_GONE) {
        await (row.desired === Desired.DESIRED_DELETED ? this.#removed(em, after, row) : this.#lose(em, after, row));
        return false;
      }
      const { place } = VmTimings.fromJSON(row.timings);
      row.phase = report.phase;
      row.reason = report.reason;
      row.message = report.message;
      row.observedGeneration = report.generation;
      row.sshHostKey = report.sshHostKey;
      row.restartCount = report.restartCount;
      row.health = report.health;
      row.serviceExit = report.serviceExit ? Exit.toJSON(report.serviceExit) : null;
      row.timings = VmTimings.toJSON({ ...(report.timings ?? VmTimings.fromPartial({})), place });
      await this.#changed(em, after, row, false);
      return false;
    });
    if (stray) this.#sessions.assign(session.nodeId, deletion(report));
  }

  async #lose(em: EntityManager, after: After, row: VmRow): Promise<void> {
    this.#log.error("a node lost a VM", { vm: row.id, node: row.nodeId });
    row.phase = Phase.PHASE_FAILED;
    row.reason = lost;
    row.message = "its node no longer has the VM; its disk is gone. Start it to begin with an empty disk, or delete it";
    row.observedGeneration = row.generation;
    row.sshHostKey = "";
    await this.#changed(em, after, row, false);
  }

  async #removed(em: EntityManager, after: After, row: VmRow): Promise<void> {
    const vm = toGone(await this.#toVm(em, row));
    const revision = await nextRevision(em);
    await em.nativeDelete(RequestEntity, { vmId: row.id });
    em.remove(row);
    await em.flush();
    after(() => {
      this.feed.publish({ revision, projectId: row.projectId, vm });
      this.#sessions.changed(row.nodeId);
    });
  }

  /** Gives the row its next revision, writes it, and tells watchers and (unless `tellNode` is false) the node. */
  async #changed(em: EntityManager, after: After, row: VmRow, tellNode = true): Promise<Vm> {
    row.revision = await nextRevision(em);
    row.updateTime = new Date();
    await em.flush();
    const vm = await this.#toVm(em, row);
    const assignment = tellNode ? await this.#assignment(em, row) : undefined;
    after(() => {
      this.feed.publish({ revision: row.revision, projectId: row.projectId, vm });
      if (assignment) this.#sessions.assign(row.nodeId, assignment);
      if (tellNode) this.#sessions.changed(row.nodeId);
    });
    return vm;
  }

  async #assignment(em: EntityManager, row: VmRow): Promise<Assignment> {
    return toAssignment(row, await keysOf(em, row.projectId));
  }

  async #toVm(em: EntityManager, row: VmRow): Promise<Vm> {
    const [node, project] = [await em.findOne(NodeEntity, { id: row.nodeId }), await em.findOne(ProjectEntity, { id: row.projectId })];
    return toVm(row, { node: node?.name ?? "", project: project?.name ?? "" });
  }
}

const isLost = (row: VmRow): boolean =>
  row.reason === lost && row.generation === row.observedGeneration && row.desired !== Desired.DESIRED_DELETED;

async function nextRevision(em: EntityManager): Promise<bigint> {
  const [row]: { next: string }[] = await em.execute("select nextval('vm_revision') as next");
  return BigInt(row?.next ?? 0);
}

async function nodeNames(em: EntityManager): Promise<ReadonlyMap<string, string>> {
  const rows = await em.findAll(NodeEntity);
  return new Map(rows.map(({ id, name }) => [id, name]));
}

/** The SSH keys of all who may enter the project's VMs. */
async function keysOf(em: EntityManager, projectId: string): Promise<string[]> {
  const rows: { public_key: string }[] = await em.execute(
    `select public_key from ssh_key join project_member on subject = owner
     where project_id = ? and role in ('member', 'owner') order by ssh_key.create_time, fingerprint`,
    [projectId],
  );
  return rows.map(({ public_key }) => public_key);
}

/** Throws `state` that names all of which a VM would make nothing. */
function refuseIgnored({ reference, config }: ResolvedImage): void {
  const ignored = ignoredFields(config);
  if (ignored.length === 0) return;
  const list = ignored.map(({ field, why }) => `${field} (${why})`).join("; ");
  const message = `strict: of ${reference} would be ignored: ${list}. Create the VM without strict, or change the image`;
  throw new PitwallError("state", message, { reason: "IMAGE_FIELDS_IGNORED", field: "spec.image" });
}

function nameTaken(name: string): PitwallError {
  return new PitwallError("exists", `name: the project has a VM called ${name}; choose another name, or delete that VM`, {
    reason: "NAME_TAKEN",
    field: "name",
  });
}

function deletion({ vmId, generation, epoch }: VmReport): Assignment {
  const rest = { vmName: "", spec: undefined, imageDigest: "", authorizedKeys: [], restartGeneration: 0n, imageCredential: undefined };
  return { vmId, generation: generation + 1n, epoch, desired: Desired.DESIRED_DELETED, ...rest };
}
