// One controller of the simulation: the parts of the real one, put together as its composition root does, without sockets.
import { randomBytes, randomUUID } from "node:crypto";
import { Credentials } from "@pitwall/controller/src/credentials/credentials.ts";
import { SecretBox } from "@pitwall/controller/src/credentials/secret-box.ts";
import { Mutations } from "@pitwall/controller/src/mutation/mutations.ts";
import { openSigner } from "@pitwall/controller/src/mutation/signer.ts";
import { Leases } from "@pitwall/controller/src/nodes/leases.ts";
import { patienceOf } from "@pitwall/controller/src/nodes/liveness.ts";
import { NodeNews } from "@pitwall/controller/src/nodes/node-news.ts";
import { Nodes } from "@pitwall/controller/src/nodes/nodes.ts";
import { Sessions } from "@pitwall/controller/src/nodes/sessions.ts";
import { reconcile } from "@pitwall/controller/src/reconcile/loop.ts";
import { reconcileNodeLoss } from "@pitwall/controller/src/reconcile/node-loss.ts";
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

export interface SimControllerParts {
  readonly process: SimProcess;
  readonly notices: Notices;
  readonly images: ImageSources;
  readonly log: Log;
}

export interface SimController {
  readonly process: SimProcess;
  readonly vms: Vms;
  readonly link: ReturnType<typeof linkService>;
  /** kill -9. */
  kill(): void;
}

export async function startSimController({ process, notices, images, log }: SimControllerParts): Promise<SimController> {
  const { store, clock, failpoints } = process;
  const id = randomUUID();
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
  const leases = new Leases({ store, news, heartbeatMs, leaseMs, beat: async () => undefined, failpoints, log, clock });
  const patience = patienceOf(leaseMs);
  const rounds = { "node-loss": () => reconcileNodeLoss({ store, mutations, recorder, placer, leases, news, patience, failpoints, log }) };
  const reconciling = reconcile(rounds, log, clock);
  const stop = new AbortController();
  void leases.run(stop.signal);
  void news.run(stop.signal);
  void view.run(stop.signal);
  void repeatPending({ assignments, sessions, failpoints, log, clock }, stop.signal);
  const link = linkService({
    ...{ reports, assignments, nodes, sessions, leases, heartbeatMs, leaseMs, failpoints, log, clock },
    controllers: async () => [],
  });
  return {
    process,
    vms,
    link,
    kill() {
      process.die();
      // Nothing of it has an effect any more; this frees what waits.
      stop.abort();
      void reconciling[Symbol.asyncDispose]();
      void feed[Symbol.asyncDispose]();
    },
  };
}
