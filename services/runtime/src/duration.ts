// google.protobuf.Duration to and from milliseconds.

/** As the generated code spells `google.protobuf.Duration`. */
export interface WireDuration {
  seconds: bigint;
  nanos: number;
}

export function toDuration(ms: number): WireDuration {
  const whole = Math.floor(ms / 1000);
  return { seconds: BigInt(whole), nanos: Math.round((ms - whole * 1000) * 1e6) };
}

export function fromDuration(duration: WireDuration): number {
  return Number(duration.seconds) * 1000 + duration.nanos / 1e6;
}
