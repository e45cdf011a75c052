// The deadline of a call, as its `grpc-timeout` header says it (PROTOCOL-HTTP2.md of grpc/grpc).

const unitMs: Readonly<Record<string, number>> = { H: 3_600_000, M: 60_000, S: 1_000, m: 1, u: 1e-3, n: 1e-6 };
/** What timers can wait for; a call that may take longer has no deadline here. */
const longestMs = 2 ** 31 - 1;

/** Milliseconds, rounded up; undefined without a deadline, and for what is none: the upstream judges that. */
export function grpcTimeoutMs(header: unknown): number | undefined {
  const [, digits = "", unit = ""] = typeof header === "string" ? (/^(\d{1,8})([HMSmun])$/.exec(header) ?? []) : [];
  const ms = Math.ceil(Number(digits) * (unitMs[unit] ?? Number.NaN));
  return ms <= longestMs ? ms : undefined;
}
