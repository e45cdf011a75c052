import { readFileSync } from "node:fs";
import { createFileRegistry, fromBinary } from "@bufbuild/protobuf";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { CreateVmRequest, UpdateVmRequest, VmServiceDefinition, VmSpec } from "@pitwall/proto/pitwall/v1/vm.ts";
import { expect, test } from "vitest";
import { LostKeys, lostKeyField } from "./lost-keys.ts";

const descriptors = readFileSync(new URL("../../../../gen/descriptor.binpb", import.meta.url));
const registry = createFileRegistry(fromBinary(FileDescriptorSetSchema, descriptors));
const hostile = Object.fromEntries([
  ["A", "1"],
  ["__proto__", "x"],
]);

function fieldOf(type: string, bytes: Uint8Array): string | undefined {
  const message = registry.getMessage(`pitwall.v1.${type}`);
  if (!message) throw new Error(`there is no message ${type}`);
  return lostKeyField(message, bytes);
}

test("an entry that decoding would lose is found by its field", () => {
  const spec = VmSpec.fromPartial({ image: "x" });
  const create = CreateVmRequest.fromPartial({});
  expect(fieldOf("CreateVmRequest", CreateVmRequest.encode({ ...create, spec: { ...spec, env: hostile } }).finish())).toBe("spec.env");
  expect(fieldOf("CreateVmRequest", CreateVmRequest.encode({ ...create, spec: { ...spec, labels: hostile } }).finish())).toBe(
    "spec.labels",
  );
  const update = UpdateVmRequest.fromPartial({ value: {} });
  const bytes = UpdateVmRequest.encode({ ...update, value: { ...update.value!, spec: { ...spec, labels: hostile } } }).finish();
  expect(fieldOf("UpdateVmRequest", bytes)).toBe("value.spec.labels");
});

test("the word anywhere else is nothing special", () => {
  const request = CreateVmRequest.fromPartial({
    name: "__proto__",
    spec: { image: "__proto__", args: ["__proto__", "\n\t__proto__"], env: { A: "__proto__", x__proto__: "" } },
  });
  expect(fieldOf("CreateVmRequest", CreateVmRequest.encode(request).finish())).toBeUndefined();
});

test("a service's own types are left as they are", () => {
  const { methods } = new LostKeys(descriptors).noticing(VmServiceDefinition);
  expect(Object.keys(methods)).toEqual(Object.keys(VmServiceDefinition.methods));
  expect(methods.createVm.requestType.decode(CreateVmRequest.encode(CreateVmRequest.fromPartial({ name: "web" })).finish()).name).toBe(
    "web",
  );
});
