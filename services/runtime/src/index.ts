// Plumbing that services share. No noun of Pitwall's domain lives here.
export * from "./backoff.ts";
export * from "./clock.ts";
export * from "./config.ts";
export * from "./deadline.ts";
export * from "./duration.ts";
export * from "./errors.ts";
export * from "./failpoints.ts";
export * from "./files.ts";
export * from "./listen.ts";
export * from "./log.ts";
export * from "./main.ts";
export * from "./outbox.ts";
export * from "./process-identity.ts";
export * from "./random.ts";
export * from "./rpc-boundary.ts";
export * from "./streams.ts";
export * from "./virtual-clock.ts";
