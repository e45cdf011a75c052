import { CreateVmRequest, GetVmRequest, UpdateVmRequest } from "@pitwall/proto/pitwall/v1/vm.ts";
import { ImageCommand } from "@pitwall/proto/pitwall/v1/link.ts";
import { expect, it } from "vitest";
import { unkeptField } from "./zero-bytes.ts";

const zeroByteField = (value: unknown): string | undefined => unkeptField(value)?.field;

it("names the field, as the API spells it, of the first text that holds a zero byte", () => {
  const found = (spec: Parameters<typeof CreateVmRequest.fromPartial>[0]["spec"]): string | undefined =>
    zeroByteField(CreateVmRequest.fromPartial({ name: "web", spec: spec ?? {} }));
  expect(zeroByteField(GetVmRequest.fromPartial({ vm: "a\0" }))).toBe("vm");
  expect(found({ image: "\0" })).toBe("spec.image");
  expect(found({ authorizedKeys: ["a", "\0"] })).toBe("spec.authorized_keys[1]");
  expect(found({ labels: { a: "\0" } })).toBe("spec.labels.a");
  expect(found({ labels: { "a\0": "b" } })).toBe("spec.labels");
  expect(found({ image: "web\\0", args: ["a\u0001"], memBytes: 1n })).toBeUndefined();
  const pull = ImageCommand.fromPartial({ requestId: "1", command: { $case: "pull", value: { image: "\0", digest: "" } } });
  expect(zeroByteField(pull)).toBe("pull.image");
});

it("names the field of a time that no calendar has", () => {
  const at = (expireTime: Date): unknown => unkeptField(UpdateVmRequest.fromPartial({ vm: "web", value: { expireTime } }));
  expect(at(new Date(8.64e15 + 1))).toEqual({ field: "value.expire_time", why: "is no time that a calendar has" });
  expect(at(new Date(8.64e15))).toBeUndefined();
});
