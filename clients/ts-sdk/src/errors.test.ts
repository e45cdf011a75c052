import { ClientError, Status } from "nice-grpc-common";
import { BadRequest, ErrorInfo, RichClientError } from "nice-grpc-error-details";
import { expect, test } from "vitest";
import { PitwallRpcError, translate } from "./errors.ts";

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
