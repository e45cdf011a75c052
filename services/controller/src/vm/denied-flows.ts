// Where a VM tried to send to and was not let: its node has counted it, and is asked.
import type { ListDeniedFlowsResponse } from "@pitwall/proto/pitwall/v1/vm.ts";
import { PitwallError } from "@pitwall/runtime";
import { noLink, type NodeLinks } from "../nodes/links.ts";
import type { Principal } from "../projects/principal.ts";
import { reachVm } from "../projects/reach.ts";
import type { Store } from "../store/store.ts";

const answerLimitMs = 10_000;
/** Of nodes that answer: docs/link.md. */
const answeringCapability = 8;
/** Of one VM, so that no node makes more of an answer than a caller can take. */
const mostFlows = 1_000;

export class DeniedFlows {
  readonly #store: Store;
  readonly #links: Pick<NodeLinks, "of">;

  constructor(parts: { readonly store: Store; readonly links: Pick<NodeLinks, "of"> }) {
    this.#store = parts.store;
    this.#links = parts.links;
  }

  /** Throws `not-found`, `unavailable` while the node is away, `unsupported` where nothing is counted. */
  async list(caller: Principal, reference: string, signal: AbortSignal): Promise<ListDeniedFlowsResponse> {
    const { id, name, nodeId } = await reachVm(this.#store.read(), caller, reference, "viewer");
    const link = await this.#links.of(nodeId);
    if (!link) throw noLink();
    const refused = (reason: string, why: string): PitwallError =>
      new PitwallError("unsupported", `what the VM ${name} is denied is not known: ${why}`, { reason });
    if (link.capability < answeringCapability) throw refused("AGENT_TOO_OLD", "the agent of its node is too old: update it");
    const limited = AbortSignal.any([signal, AbortSignal.timeout(answerLimitMs)]);
    const answer = await link.askNetwork({ $case: "deniedFlows", value: { vmId: id } }, limited).catch((error: unknown) => {
      throw limited.aborted && !signal.aborted ? noLink() : error;
    });
    if (answer.reason !== "") throw refused(answer.reason, answer.message);
    const { flows = [], unlistedPackets = 0n } = answer.deniedFlows ?? {};
    return { flows: flows.slice(0, mostFlows), unlistedPackets };
  }
}
