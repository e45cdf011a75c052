import { ClientError, Status } from "nice-grpc-common";
import { BadRequest, ErrorInfo, RichClientError } from "nice-grpc-error-details";
import { expect, test } from "vitest";
import { PitwallRpcError, translate, WaitTimeoutError } from "./errors.ts";
import { Phase, Vm } from "./gen/pitwall/v1/vm.ts";

test("code, reason and field are taken from the details", () => {
  const details = [
    ErrorInfo.create({ reason: "NAME_TAKEN" }),
    BadRequest.create({ fieldViolations: [{ field: "name", description: "taken" }] }),
  ];
  const error = translate(new RichClientError("/x/Y", Status.ALREADY_EXISTS, "name: taken", details));
  expect(error).toBeInstanceOf(PitwallRpcError);
  expect(error).toMatchObject({ code: "ALREADY_EXISTS", reason: "NAME_TAKEN", field: "name", message: "name: taken" });
});

test("an error without details has a code alone", () => {
  expect(translate(new ClientError("/x/Y", Status.UNAVAILABLE, "gone"))).toMatchObject({
    code: "UNAVAILABLE",
    reason: "",
    field: undefined,
  });
});

test("what is not of the server stays as it is", () => {
  const bug = new TypeError("x");
  expect(translate(bug)).toBe(bug);
});

test("a wait that ran out of time tells where the VM was", () => {
  const vm = Vm.fromPartial({ name: "web", phase: Phase.PHASE_BOOTING });
  expect(new WaitTimeoutError("web", 500, vm)).toMatchObject({ vm, message: "web did not get there within 500 ms: PHASE_BOOTING" });
  expect(new WaitTimeoutError("web", 500, undefined).message).toBe("web did not get there within 500 ms: nothing was heard of it");
});
