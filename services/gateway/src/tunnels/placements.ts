// Which placement of each VM was reached last. A VM that was placed anew runs elsewhere; what is left of it where it was before, because
// agent and fence there are both stopped, is reached by nobody any more: ways to it end, and none is opened.
import type { Duplex } from "node:stream";
import { PitwallError, planted } from "@pitwall/runtime";

/** Of VMs to which no way is open, so many are remembered. */
const maxClosed = 10_000;

interface Known {
  epoch: bigint;
  readonly streams: Set<Duplex>;
}

export class Placements {
  /** The ones that were heard of longest ago come first. */
  readonly #known = new Map<string, Known>();

  /** A controller says where the VM is. Ends the ways to older placements. Throws `unavailable` when a later one is known. */
  heard(vmId: string, epoch: bigint): void {
    const known = this.#known.get(vmId) ?? { epoch, streams: new Set() };
    if (known.epoch > epoch && !planted("gateway-ignores-epoch")) throw movedOn();
    this.#known.delete(vmId);
    this.#known.set(vmId, known);
    if (known.epoch < epoch && !planted("gateway-ignores-epoch")) {
      known.epoch = epoch;
      for (const stream of known.streams) stream.destroy(movedOn());
    }
    if (this.#known.size > maxClosed) this.#forget();
  }

  /** A way to a placement is open: until it is closed, or a later one is heard of. Throws `unavailable` when that was before. */
  opened(vmId: string, epoch: bigint, stream: Duplex): void {
    this.heard(vmId, epoch);
    const streams = this.#known.get(vmId)?.streams;
    streams?.add(stream);
    stream.once("close", () => streams?.delete(stream));
  }

  #forget(): void {
    for (const [vmId, { streams }] of this.#known) {
      if (this.#known.size <= maxClosed) return;
      if (streams.size === 0) this.#known.delete(vmId);
    }
  }
}

function movedOn(): PitwallError {
  return new PitwallError("unavailable", "the VM runs elsewhere now; try again", { reason: "VM_MOVED" });
}
