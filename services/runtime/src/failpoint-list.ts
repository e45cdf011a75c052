// All failpoints: in which program each stands, and what can be done to it there. tests/failpoint-list.test.ts holds this against the
// calls in the sources, docs/faults.md tells of it.

export type FailpointOwner = "controller" | "node" | "fence" | "gateway" | "powerunit";

interface Failpoint {
  readonly owner: FailpointOwner;
  /** `send`: a message goes out here, and can be lost or doubled. */
  readonly kind: "step" | "send";
  /** Something has just been written to this machine's disk, or is about to be: a full disk shows here. */
  readonly writes: boolean;
}

const step = <O extends FailpointOwner>(owner: O) => ({ owner, kind: "step", writes: false }) as const;
const writing = <O extends FailpointOwner>(owner: O) => ({ owner, kind: "step", writes: true }) as const;
const send = <O extends FailpointOwner>(owner: O) => ({ owner, kind: "send", writes: false }) as const;

export const failpointList = {
  // A create, in its order. Placing it and writing its row are one transaction.
  "create.api.validated": step("controller"),
  "create.sched.locked": step("controller"),
  "create.sched.placed": step("controller"),
  "create.api.committed": step("controller"),
  "create.api.replied": step("controller"),
  "outbox.read": step("controller"),
  "outbox.sent": send("controller"),
  "outbox.repeated": send("controller"),
  "create.node.received": writing("node"),
  "create.node.journalled": writing("node"),
  "create.pull.manifest": step("node"),
  "create.pull.blob.partial": writing("node"),
  "create.pull.blob.renamed": writing("node"),
  "create.flatten.start": writing("node"),
  "create.flatten.fs.written": writing("node"),
  "create.flatten.renamed": writing("node"),
  "create.flatten.kept": writing("node"),
  "create.disk.cloned": writing("node"),
  "create.vmm.spawned": step("node"),
  "create.vmm.configured": step("node"),
  "create.vmm.started": writing("node"),
  "create.node.reported": send("node"),
  "outbox.acked": step("controller"),

  // A jail, from its first thing to its last. Creates and ends of VMs pass here where VMMs are jailed.
  "jail.leased": writing("node"),
  "jail.made": writing("node"),
  "jail.confined": step("node"),
  "jail.empty": step("node"),
  "jail.gone": step("node"),

  // A VM's place on the host's bridge, from its first thing to its last. Starts and ends of VMs pass here where the node has a bridge.
  "net.rules": step("node"),
  "net.tap": step("node"),
  "net.tap.gone": step("node"),
  "net.rules.gone": step("node"),

  // Every other change of a VM, and its stop.
  "change.api.committed": step("controller"),
  "stop.vmm.term": step("node"),
  "stop.vmm.reaped": writing("node"),
  "suspend.node.journalled": writing("node"),
  "suspend.memory.kept": writing("node"),
  "wake.memory.gone": step("node"),

  // A deletion.
  "delete.api.committed": step("controller"),
  "delete.node.journalled": writing("node"),
  "delete.vmm.kill": step("node"),
  "delete.vmm.reaped": step("node"),
  "delete.disk.gone": writing("node"),
  "delete.anchor.gone": writing("node"),
  "delete.node.reported": send("node"),
  "delete.db.row.removed": step("controller"),
  "delete.db.row.gone": step("controller"),

  // Sessions and leases.
  "lease.session.begun": step("controller"),
  "lease.snapshot.sent": step("controller"),
  "lease.sent": send("node"),
  "lease.renew.sent": step("controller"),
  "lease.renew.ok": step("controller"),
  "lease.ack.sent": send("controller"),
  "lease.acked": step("node"),
  "lease.expired.seen": step("node"),
  "lease.session.ended": step("controller"),
  "lease.resigned": step("controller"),
  "lease.lost.marked": step("controller"),
  "lease.lost.committed": step("controller"),
  "reschedule.sched.placed": step("controller"),
  "reschedule.sched.committed": step("controller"),
  "fence.armed": step("node"),
  "fence.renewed": step("fence"),
  "fence.guarded": step("fence"),
  "fence.kill": step("fence"),
  "fence.killed": step("fence"),

  // A node's way back.
  "rejoin.agent.start": step("node"),
  "rejoin.scan.anchors": step("node"),
  "rejoin.scan.processes": step("node"),
  "rejoin.adopt": step("node"),
  "rejoin.destroy": step("node"),
  "rejoin.inventory.sent": step("node"),
  "rejoin.snapshot.received": step("node"),
  "rejoin.diff.applied": step("node"),
  "rejoin.ready": step("node"),

  // Ways into VMs.
  "tunnel.token.minted": step("gateway"),
  "tunnel.session.audited": step("controller"),
  "tunnel.stream.opened": step("node"),
  "tunnel.guest.accepted": step("node"),
  "tunnel.node.dialled": step("node"),
  "tunnel.node.accepted": step("gateway"),
  "tunnel.gateway.opened": step("gateway"),
  "tunnel.closed": step("node"),
  "ssh.key.authorized": step("gateway"),
  "ssh.vm.connected": step("gateway"),
  "ssh.session.joined": step("gateway"),
  "gateway.draining": step("gateway"),

  // A boot, in the guest.
  "guest.hostkey": step("powerunit"),
  "guest.mount": step("powerunit"),
  "guest.net": step("powerunit"),
  "guest.reap": step("powerunit"),
  "guest.ssh.listen": step("powerunit"),
  "guest.report": step("powerunit"),
} as const satisfies Readonly<Record<string, Failpoint>>;

type List = typeof failpointList;
type OfKind<K extends Failpoint["kind"]> = { [N in keyof List]: List[N]["kind"] extends K ? N : never }[keyof List];

/** Where something is done. */
export type StepName = OfKind<"step">;
/** Where a message is sent. */
export type SendName = OfKind<"send">;
export type FailpointName = keyof List;

export function isFailpoint(name: string): name is FailpointName {
  return Object.hasOwn(failpointList, name);
}
