// Text with a zero byte: protobuf carries it, PostgreSQL does not keep it, and no name, word or variable holds one.
import { invalid } from "@pitwall/runtime";
import type { CallContext, ServerMiddlewareCall } from "nice-grpc";

/** Middleware below the error boundary: refuses a request, not a stream of them, that holds such a text, naming the field. */
export async function* refuseZeroBytes<Req, Res, Context>(
  call: ServerMiddlewareCall<Req, Res, Context>,
  context: CallContext & Context,
): AsyncGenerator<Awaited<Res>, Awaited<Res> | void, undefined> {
  const field = call.requestStream ? undefined : zeroByteField(call.request);
  if (field !== undefined) throw invalid(field, "holds a NUL character");
  return yield* call.next(call.request, context);
}

/** As the API spells it, such as `spec.labels`. Undefined: there is none. */
export function zeroByteField(value: unknown, path = ""): string | undefined {
  if (typeof value === "string") return value.includes("\0") ? path : undefined;
  if (typeof value !== "object" || value === null || value instanceof Uint8Array) return undefined;
  if (Array.isArray(value)) return firstOf(value, (one, at) => zeroByteField(one, `${path}[${at}]`));
  return firstOf(Object.entries(value), ([name, inner]) => {
    if (name.includes("\0")) return path;
    if (name === "$case") return undefined;
    // Of a oneof the chosen member stands where the oneof does.
    const own = name === "value" && "$case" in value ? String(value.$case) : name;
    const parent = own === name ? path : path.slice(0, Math.max(0, path.lastIndexOf(".")));
    const spelled = own.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
    return zeroByteField(inner, parent === "" ? spelled : `${parent}.${spelled}`);
  });
}

function firstOf<T>(items: readonly T[], look: (item: T, at: number) => string | undefined): string | undefined {
  for (const [at, item] of items.entries()) {
    const found = look(item, at);
    if (found !== undefined) return found;
  }
  return undefined;
}
