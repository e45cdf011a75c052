import { CreateVmRequest, GetVmRequest } from "@pitwall/proto/pitwall/v1/vm.ts";
import { ImageCommand } from "@pitwall/proto/pitwall/v1/link.ts";
import { expect, it } from "vitest";
import { zeroByteField } from "./zero-bytes.ts";

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
