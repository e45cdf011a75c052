// One keepalive policy for both ends of every connection between Pitwall's processes.

/** Options of grpc-js, for channels and servers. A peer that vanished is noticed within 10 s; a pause of 1 s is nobody's end. */
export const keepalive = {
  "grpc.keepalive_time_ms": 5_000,
  "grpc.keepalive_timeout_ms": 5_000,
  "grpc.keepalive_permit_without_calls": 1,
};
