// How much a VM may send and be sent, as --bandwidth-in and --bandwidth-out say it and as it is shown.
import { InvalidArgumentError, type Command } from "commander";
import type { VmSpec } from "@pitwall/sdk";

const units = { "": 1n, k: 1_000n, M: 1_000_000n, G: 1_000_000_000n, T: 1_000_000_000_000n } as const;
type Unit = keyof typeof units;

export interface BandwidthOptions {
  readonly bandwidthIn?: bigint;
  readonly bandwidthOut?: bigint;
}

export function withBandwidth(command: Command): Command {
  return command
    .option("--bandwidth-in <bits>", "bits a second that it may be sent, such as 100M; none: no limit", parseBandwidth)
    .option("--bandwidth-out <bits>", "bits a second that it may send", parseBandwidth);
}

/** Bits a second from `100M`, `1G`, `64k`, a plain number, or `none`. Throws `InvalidArgumentError`. */
export function parseBandwidth(text: string): bigint {
  if (text === "none") return 0n;
  const match = /^(\d{1,15})(k|M|G|T|)(?:bit)?$/.exec(text);
  const bps = match ? BigInt(match[1] ?? "") * units[match[2] as Unit] : 0n; // the pattern admits only the keys
  if (bps === 0n) throw new InvalidArgumentError("Expected bits a second such as 100M or 1G, or none.");
  return bps;
}

/** What was said, in the words of a specification. */
export function bandwidthIn({
  bandwidthIn: into,
  bandwidthOut: out,
}: BandwidthOptions): Pick<Partial<VmSpec>, "bandwidthInBps" | "bandwidthOutBps"> {
  return { ...(into !== undefined && { bandwidthInBps: into }), ...(out !== undefined && { bandwidthOutBps: out }) };
}

/** What a VM has; empty: no limit. */
export function bandwidthWords({ bandwidthInBps, bandwidthOutBps }: Pick<VmSpec, "bandwidthInBps" | "bandwidthOutBps">): string {
  const words = [
    ...(bandwidthInBps > 0n ? [`in ${word(bandwidthInBps)}`] : []),
    ...(bandwidthOutBps > 0n ? [`out ${word(bandwidthOutBps)}`] : []),
  ];
  return words.join(", ");
}

/** As it may be said again. */
function word(bps: bigint): string {
  const [unit, size] = Object.entries(units).findLast(([, bits]) => bps % bits === 0n) ?? ["", 1n];
  return `${bps / size}${unit}`;
}
