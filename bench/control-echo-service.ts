// One bidirectional method whose messages are bytes: the bare server's, and any other that is to be spoken by hand.
import type { MethodDefinition } from "@grpc/grpc-js";

const asIs = (bytes: Buffer): Buffer => bytes;

export function echoMethod(path = "/bench.Echo/Run"): { readonly run: MethodDefinition<Buffer, Buffer> } {
  const bytes = { requestSerialize: asIs, requestDeserialize: asIs, responseSerialize: asIs, responseDeserialize: asIs };
  return { run: { path, requestStream: true, responseStream: true, ...bytes } };
}
