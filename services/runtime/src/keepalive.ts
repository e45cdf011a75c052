// One keepalive policy for both ends of every connection between Pitwall's processes.

/** A node says at least so often that it is there, whatever else it has to say: by a ping, which costs the controller no message. */
export const pulseMs = 1_500;

/** Options of grpc-js, for channels and servers. A peer that vanished is noticed within 10 s; a pause of 1 s is nobody's end. */
export const keepalive = {
  "grpc.keepalive_time_ms": 5_000,
  "grpc.keepalive_timeout_ms": 5_000,
  "grpc.keepalive_permit_without_calls": 1,
};

/** The same for a node's end of its link. */
export const pulse = { ...keepalive, "grpc.keepalive_time_ms": pulseMs };
