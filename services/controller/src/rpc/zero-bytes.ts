// What protobuf carries and nothing here keeps: text with a zero byte, which no name, word or variable holds, and times beyond all calendars.
import { invalid } from "@pitwall/runtime";
import type { CallContext, ServerMiddlewareCall } from "nice-grpc";

/** Middleware below the error boundary: refuses a request, not a stream of them, that holds such a text, naming the field. */
export async function* refuseZeroBytes<Req, Res, Context>(
  call: ServerMiddlewareCall<Req, Res, Context>,
  context: CallContext & Context,
): AsyncGenerator<Awaited<Res>, Awaited<Res> | void, undefined> {
  const found = call.requestStream ? undefined : unkeptField(call.request);
  if (found) throw invalid(found.field, found.why);
  return yield* call.next(call.request, context);
}

interface Unkept {
  /** As the API spells it, such as `spec.labels`. */
  readonly field: string;
  readonly why: string;
}

const zeroByte = "holds a NUL character";

/** Undefined: there is none. */
export function unkeptField(value: unknown, path = ""): Unkept | undefined {
  if (typeof value === "string") return value.includes("\0") ? { field: path, why: zeroByte } : undefined;
  if (typeof value !== "object" || value === null || value instanceof Uint8Array) return undefined;
  if (value instanceof Date) return Number.isNaN(value.getTime()) ? { field: path, why: "is no time that a calendar has" } : undefined;
  if (Array.isArray(value)) return firstOf(value, (one, at) => unkeptField(one, `${path}[${at}]`));
  return firstOf(Object.entries(value), ([name, inner]) => {
    if (name.includes("\0")) return { field: path, why: zeroByte };
    if (name === "$case") return undefined;
    // Of a oneof the chosen member stands where the oneof does.
    const own = name === "value" && "$case" in value ? String(value.$case) : name;
    const parent = own === name ? path : path.slice(0, Math.max(0, path.lastIndexOf(".")));
    const spelled = own.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
    return unkeptField(inner, parent === "" ? spelled : `${parent}.${spelled}`);
  });
}

function firstOf<T>(items: readonly T[], look: (item: T, at: number) => Unkept | undefined): Unkept | undefined {
  for (const [at, item] of items.entries()) {
    const found = look(item, at);
    if (found !== undefined) return found;
  }
  return undefined;
}
