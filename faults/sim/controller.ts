// One controller of the simulation: the parts of the real one, put together as its composition root does, without sockets.
import { randomBytes, randomUUID } from "node:crypto";
import { Credentials } from "@pitwall/controller/src/credentials/credentials.ts";
import { SecretBox } from "@pitwall/controller/src/credentials/secret-box.ts";
import { Mutations } from "@pitwall/controller/src/mutation/mutations.ts";
import { openSigner } from "@pitwall/controller/src/mutation/signer.ts";
import { FleetChanges } from "@pitwall/controller/src/nodes/fleet-changes.ts";
import { HeldImages } from "@pitwall/controller/src/nodes/held-images.ts";
import { Leases } from "@pitwall/controller/src/nodes/leases.ts";
import { patienceOf } from "@pitwall/controller/src/nodes/liveness.ts";
import { NodeLinks, noLink, type NodeLink, type Relay } from "@pitwall/controller/src/nodes/links.ts";
import { NodeNews } from "@pitwall/controller/src/nodes/node-news.ts";
import { Nodes } from "@pitwall/controller/src/nodes/nodes.ts";
import { Roster } from "@pitwall/controller/src/nodes/roster.ts";
import { Sessions } from "@pitwall/controller/src/nodes/sessions.ts";
import { drainRounds } from "@pitwall/controller/src/reconcile/drain.ts";
import { reconcileDueVms } from "@pitwall/controller/src/reconcile/due-vms.ts";
import { reconcile } from "@pitwall/controller/src/reconcile/loop.ts";
import { reconcileNodeLoss } from "@pitwall/controller/src/reconcile/node-loss.ts";
import { openParking } from "@pitwall/controller/src/reconcile/parking.ts";
import { linkService } from "@pitwall/controller/src/rpc/link-service.ts";
import type { Notices } from "@pitwall/controller/src/store/notices.ts";
import { Assignments, dispatch, repeatPending } from "@pitwall/controller/src/vm/assignments.ts";
import { Feed } from "@pitwall/controller/src/vm/feed.ts";
import { FleetView } from "@pitwall/controller/src/vm/fleet-view.ts";
import { Placer } from "@pitwall/controller/src/vm/placer.ts";
import { Recorder } from "@pitwall/controller/src/vm/recorder.ts";
import { Reports } from "@pitwall/controller/src/vm/reports.ts";
import { Vms } from "@pitwall/controller/src/vm/vms.ts";
import type { ImageSources } from "@pitwall/oci";
import type { Log } from "@pitwall/runtime";
import type { SimProcess } from "./process.ts";

const heartbeatMs = 1_000;
export const leaseMs = 10_000;
/** A sixth as often as by default: most of what an idle controller asks its database is asked by this. */
const reconcileMs = 3_000;

export interface SimControllerParts {
  readonly process: SimProcess;
  readonly notices: Notices;
  /** What another controller has of a node's link; undefined: it does not answer. */
  readonly linkAt: (controllerId: string, nodeId: string) => NodeLink | undefined;
  readonly images: ImageSources;
  readonly log: Log;
}

export interface SimController {
  readonly id: string;
  readonly process: SimProcess;
  readonly vms: Vms;
  readonly fleet: FleetChanges;
  readonly sessions: Sessions;
  readonly links: NodeLinks;
  readonly link: ReturnType<typeof linkService>;
  /** kill -9. */
  kill(): void;
}

export async function startSimController({ process, notices, linkAt, images, log }: SimControllerParts): Promise<SimController> {
  const { store, clock, failpoints } = process;
  const id = randomUUID();
  const roster = new Roster(store, id);
  await roster.enter({ api: id, link: id });
  const sessions = new Sessions();
  const nodes = new Nodes({ store, sessions, holder: () => ({ id, address: id }), leaseMs });
  const signer = await openSigner(store);
  const feed = await Feed.open({ store, notices, signer, log, clock });
  const recorder = new Recorder(feed);
  const mutations = new Mutations({ store, signer, clock });
  const credentials = new Credentials({ store, mutations, box: new SecretBox([randomBytes(32)]) });
  const view = new FleetView({ store, nodes, sessions, feed, log, clock });
  const placer = new Placer(view);
  const vms = new Vms({ store, mutations, nodes, placer, images, credentials, recorder, feed, signer, failpoints });
  const assignments = new Assignments({ store, credentials });
  const reports = new Reports({ store, sessions, recorder, failpoints, log });
  void dispatch({ feed, assignments, sessions, failpoints, log });
  const news = new NodeNews({ store, sessions, notices, log, clock });
  const leases = new Leases({ store, news, heartbeatMs, leaseMs, beat: () => roster.seen(), failpoints, log, clock });
  const patience = patienceOf(leaseMs);
  const links = new NodeLinks({ store, sessions, relay: relayBy(linkAt), ownId: id });
  const fleet = new FleetChanges({ mutations, nodes, placer, news });
  const parking = openParking({ store, mutations, log });
  const rounds = {
    "node-loss": () => reconcileNodeLoss({ store, mutations, recorder, placer, parking, leases, news, patience, failpoints, log }),
    "due-vms": () => reconcileDueVms({ store, mutations, recorder, parking }),
    drain: drainRounds({ store, mutations, recorder, placer, parking, links, news, log, clock }),
  };
  const reconciling = reconcile(rounds, log, clock, reconcileMs);
  const stop = new AbortController();
  void leases.run(stop.signal);
  void news.run(stop.signal);
  void view.run(stop.signal);
  void repeatPending({ assignments, sessions, failpoints, log, clock }, stop.signal);
  const link = linkService({
    ...{ reports, assignments, nodes, sessions, leases, heartbeatMs, leaseMs, failpoints, log, clock },
    ...{ controllers: async () => [], sshUserAuthorities: [], heldImages: new HeldImages({ store, log, clock }) },
  });
  return {
    ...{ id, process, vms, fleet, sessions, links, link },
    kill() {
      process.die();
      // Nothing of it has an effect any more; this frees what waits.
      stop.abort();
      void reconciling[Symbol.asyncDispose]();
      void feed[Symbol.asyncDispose]();
    },
  };
}

/** Controllers reach each other for what drains need; the address of one is its id. */
function relayBy(linkAt: SimControllerParts["linkAt"]): Relay {
  const at = (address: string, nodeId: string): NodeLink => {
    const link = linkAt(address, nodeId);
    if (!link) throw noLink();
    return link;
  };
  return {
    ask: async (address, nodeId, command, signal) => at(address, nodeId).ask(command, signal),
    askNetwork: async (address, nodeId, command, signal) => at(address, nodeId).askNetwork(command, signal),
    tunnel: async (address, nodeId, request, signal) => at(address, nodeId).tunnel(request, signal),
    assign: async (address, nodeId, assignments) => at(address, nodeId).assign(assignments),
  };
}
