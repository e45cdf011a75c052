// Map entries under the name `__proto__`: generated decoders put entries into objects, where that name is no property. Such an entry would
// be lost without a word, so the request is refused instead.
import { createFileRegistry, fromBinary, ScalarType, type DescField, type DescMessage, type FileRegistry } from "@bufbuild/protobuf";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { BinaryReader, WireType } from "@bufbuild/protobuf/wire";
import { invalid } from "@pitwall/runtime";
import type { CallContext, ServerMiddlewareCall } from "nice-grpc";

const name = "__proto__";

interface Method {
  readonly requestType: { decode(bytes: Uint8Array): object };
  readonly requestStream: boolean;
}

/** A service as generated code describes it. */
interface Definition {
  readonly fullName: string;
  readonly methods: Readonly<Record<string, Method>>;
}

export class LostKeys {
  readonly #registry: FileRegistry;
  /** Of requests that have lost an entry: the field. */
  readonly #fields = new WeakMap<object, string>();

  /** `descriptors` is an encoded FileDescriptorSet of all services. */
  constructor(descriptors: Uint8Array) {
    this.#registry = createFileRegistry(fromBinary(FileDescriptorSetSchema, descriptors));
  }

  /** The same service, whose requests are looked through before they are decoded. */
  noticing<D extends Definition>(definition: D): D {
    const service = this.#registry.getService(definition.fullName);
    const methods = Object.entries(definition.methods).map(([key, method]) => {
      const input = service?.methods.find(({ localName }) => localName === key)?.input;
      const { requestType } = method;
      const decode = (bytes: Uint8Array): object => {
        const request = requestType.decode(bytes);
        const field = input && lostKeyField(input, bytes);
        if (field !== undefined) this.#fields.set(request, field);
        return request;
      };
      return [key, method.requestStream ? method : { ...method, requestType: { ...requestType, decode } }];
    });
    return { ...definition, methods: Object.fromEntries(methods) as D["methods"] }; // the same methods, each with its own types
  }

  /** Middleware below the error boundary. */
  refuse = <Req, Res, Context>(
    call: ServerMiddlewareCall<Req, Res, Context>,
    context: CallContext & Context,
  ): AsyncGenerator<Awaited<Res>, Awaited<Res> | void, undefined> => {
    const field = typeof call.request === "object" && call.request !== null ? this.#fields.get(call.request) : undefined;
    if (field !== undefined) throw invalid(field, `may not hold ${JSON.stringify(name)} as a name`);
    return call.next(call.request, context) as AsyncGenerator<Awaited<Res>, Awaited<Res> | void, undefined>;
  };
}

/** As the API spells it, such as `spec.env`. Undefined: there is none. */
export function lostKeyField(message: DescMessage, bytes: Uint8Array, path = ""): string | undefined {
  if (!Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).includes(name)) return undefined;
  const reader = new BinaryReader(bytes);
  while (reader.pos < reader.len) {
    const [number, wireType] = reader.tag();
    const field = message.fields.find((known) => known.number === number);
    if (!field || wireType !== WireType.LengthDelimited) {
      reader.skip(wireType, number);
      continue;
    }
    const found = within(field, reader.bytes(), path === "" ? field.name : `${path}.${field.name}`);
    if (found !== undefined) return found;
  }
  return undefined;
}

function within(field: DescField, bytes: Uint8Array, path: string): string | undefined {
  if (field.fieldKind === "map") return field.mapKey === ScalarType.STRING && keyOf(bytes) === name ? path : undefined;
  return field.message && lostKeyField(field.message, bytes, path);
}

/** Of a map's entry: its first field. */
function keyOf(entry: Uint8Array): string {
  const reader = new BinaryReader(entry);
  let key = "";
  while (reader.pos < reader.len) {
    const [number, wireType] = reader.tag();
    if (number === 1 && wireType === WireType.LengthDelimited) key = reader.string();
    else reader.skip(wireType, number);
  }
  return key;
}
